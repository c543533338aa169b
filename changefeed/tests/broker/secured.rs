//! A broker that speaks TLS, with a certificate of an authority of our own, and asks for a password by
//! SCRAM. Only with the feature that has both: `cargo test -p changefeed --features kafka-tls --test
//! broker`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use changefeed::sink::kafka::{KafkaSink, Settings};
use changefeed::sink::{Failure, Sink};
use env::Env;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

use crate::{LAST, insist, insist_on_mark, message, run, settings, started};

const USER: &str = "feed";
const PASSWORD: &str = "hush-hush";
/// Beyond any pause of a busy machine.
const TIME_MAX: Duration = Duration::from_mins(2);

type Authority = CertifiedIssuer<'static, KeyPair>;

fn named(name: &str, addresses: &[&str]) -> CertificateParams {
    let addresses: Vec<String> = addresses.iter().map(|address| (*address).to_owned()).collect();
    let mut params = CertificateParams::new(addresses).expect("names");
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn authority() -> Authority {
    let mut params = named("an authority", &[]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("signed")
}

/// Writes a key and a certificate for brokers on loopback as Kafka reads them.
fn write_server_certificate(authority: &Authority, folder: &Path) -> PathBuf {
    let params = named("a broker", &["localhost", "127.0.0.1"]);
    let key = KeyPair::generate().expect("a key");
    let certificate = params.signed_by(&key, authority).expect("signed");
    let path = folder.join("broker.pem");
    let text = format!("{}{}{}", key.serialize_pem(), certificate.pem(), authority.pem());
    fs::write(&path, text).expect("a file");
    path
}

/// What a feed's options say, with the right password and authority.
fn secured(settings: Settings, address: &str, authority: &Authority) -> Settings {
    let passed_on = [
        ("security.protocol", "SASL_SSL"),
        ("sasl.mechanism", "SCRAM-SHA-512"),
        ("sasl.username", USER),
        ("sasl.password", PASSWORD),
        ("ssl.ca.pem", &authority.pem()),
        ("compression.type", "zstd"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let brokers = vec![address.to_owned()];
    Settings { brokers, passed_on: passed_on.into(), ..settings }
}

fn changed(settings: &Settings, name: &str, value: &str) -> Settings {
    let mut settings = settings.clone();
    settings.passed_on.insert(name.to_owned(), value.to_owned());
    settings
}

/// What a feed says that cannot go on so, as soon as it says one of these.
async fn complaint(env: &Env, settings: Settings, wanted: &[&str]) -> String {
    let mut sink = KafkaSink::new(env, settings);
    let began = Instant::now();
    loop {
        let error = sink.open().await.expect_err("it is not let in");
        assert_eq!(error.failure, Failure::Transient, "the broker may be changed: {error}");
        assert!(!error.text.contains(PASSWORD), "{error}");
        if wanted.iter().all(|wanted| error.text.contains(wanted)) {
            return error.text;
        }
        assert!(began.elapsed() < TIME_MAX, "{error}");
    }
}

#[test]
fn messages_arrive_by_tls_and_scram_and_whoever_is_not_let_in_is_told_why() {
    let Some(mut broker) = started() else { return };
    let (authority, stranger) = (self::authority(), self::authority());
    let folder = tempfile::tempdir().expect("a folder");
    let pem = write_server_certificate(&authority, folder.path());
    broker.add_scram_user(USER, PASSWORD);
    let module = "org.apache.kafka.common.security.scram.ScramLoginModule";
    let [by_password, by_tls] = broker.listen_also(
        ["SASL_SSL", "SSL"],
        &[
            "ssl.keystore.type=PEM".to_owned(),
            format!("ssl.keystore.location={}", pem.display()),
            "sasl.enabled.mechanisms=SCRAM-SHA-512".to_owned(),
            format!("listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config={module} required;"),
        ],
    );
    let settings = secured(settings(&broker, "secured"), &by_password, &authority);
    run(async {
        let env = Env::real();
        let mut sink = KafkaSink::new(&env, settings.clone());
        insist(&mut sink, &[message("a", Some("1")), message("b", Some("2"))]).await;
        // Without a password, and with the authority from a file.
        let file = folder.path().join("authority.pem");
        fs::write(&file, authority.pem()).expect("a file");
        let mut plain = self::settings(&broker, "secured");
        plain.brokers = vec![by_tls];
        plain.passed_on = [
            ("security.protocol", "SSL".to_owned()),
            ("ssl.ca.location", file.display().to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        insist(&mut KafkaSink::new(&env, plain.clone()), &[message("a", Some("3"))]).await;

        let wrong = changed(&settings, "sasl.password", "not-the-password");
        println!("wrong password: {}", complaint(&env, wrong, &["uthentication"]).await);
        let unknown = changed(&settings, "sasl.username", "nobody");
        println!("unknown user: {}", complaint(&env, unknown, &["uthentication"]).await);
        let strange = changed(&settings, "ssl.ca.pem", &stranger.pem());
        let text = complaint(&env, strange, &["certificate verify failed"]).await;
        println!("untrusted certificate: {text}");
        // A listener of another kind than the feed was told of.
        plain.passed_on.clear();
        println!("no TLS: {}", complaint(&env, plain, &["Kafka at"]).await);

        insist_on_mark(&mut sink, LAST).await;
    });
    let mut records = broker.read("secured", LAST);
    records.sort_by(|a, b| (&a.key, a.offset).cmp(&(&b.key, b.offset)));
    let values: Vec<(&str, &str)> =
        records.iter().map(|record| (record.key.as_str(), record.value.as_str())).collect();
    assert_eq!(values, [("a", "1"), ("a", "3"), ("b", "2")]);
}
