//! Configurations from flags, variables of Cassandra's image, files, and names that are looked up.

use super::*;
use clap::Parser;

const MACHINE: Machine = Machine { core_count: 2, memory_bytes: 8 << 30 };
type Resolved = Result<(Config, Vec<String>), ConfigError>;

fn flags(arguments: &[&str]) -> Flags {
    let arguments = std::iter::once("tethys").chain(arguments.iter().copied());
    Flags::try_parse_from(arguments).unwrap()
}

/// On a host called `box`, which also knows `node2`.
fn resolve(arguments: &[&str], variables: &[(&str, &str)], file: Option<&str>) -> Resolved {
    let look_up = |name: &str| match name {
        "box" => Ok(vec![ip("127.0.1.1"), ip("fd00::9"), ip("172.18.0.9")]),
        "node2" => Ok(vec![ip("172.18.0.2")]),
        "empty" => Ok(Vec::new()),
        _ => Err("nobody knows it".to_owned()),
    };
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let variables: Vec<(String, String)> = variables.iter().map(owned).collect();
    Config::resolve(&Sources {
        flags: &flags(arguments),
        variables: &variables,
        file,
        machine: MACHINE,
        host_name: "box",
        look_up: &look_up,
    })
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn seed(host: &str, port: Option<u16>) -> Seed {
    Seed { host: host.to_owned(), port }
}

#[test]
fn flags_win_over_the_file_and_the_file_over_defaults() {
    let file = "native_transport_port: 7777\nshards: 3\ndata_file_directories: [/x]\n";
    let arguments = ["--port", "1", "--dc", "north", "--port", "8888"];
    let (config, warnings) = resolve(&arguments, &[], Some(file)).unwrap();
    assert_eq!((&*config.data_center, &*config.rack), ("north", "rack1"));
    assert_eq!((config.port, config.shard_count), (8888, Some(3)));
    assert_eq!(config.data_dir, PathBuf::from("/x"));
    assert_eq!(config.memory_bytes, 2 << 30);
    assert!(warnings.is_empty());
}

#[test]
fn a_variable_of_ours_that_nobody_knows_is_warned_of() {
    let variables = [
        ("TETHYS_PROT", "9142"),
        ("TETHYS_LOG", "debug"),
        (env::FAULTS_VARIABLE, "/known/to/builds/of/tests"),
        ("TETHYS_MEMORY", "1G"),
        ("TETHYS_SERVICE_HOST", "10.0.0.1"),
        ("TETHYS_PORT_9042_TCP_ADDR", "10.0.0.1"),
        ("TETHYS_METRICS_PORT", "tcp://10.0.0.2:9180"),
    ];
    let (_, warnings) = resolve(&[], &variables, None).unwrap();
    let of_typo = "unknown environment variable TETHYS_PROT; the nearest known one is TETHYS_PORT";
    assert_eq!(warnings, [of_typo]);
}

#[test]
fn a_file_of_cassandra_says_where_the_others_are() {
    let file = "
cluster_name: north
storage_port: 7001
listen_address: localhost
broadcast_address: 10.0.0.5
seed_provider:
  - class_name: org.apache.cassandra.locator.SimpleSeedProvider
    parameters:
      - seeds: \"10.0.0.5, node2:7005\"
";
    let (config, warnings) = resolve(&[], &[], Some(file)).unwrap();
    assert_eq!(config.cluster_name(), "north");
    assert_eq!(config.listen_address(), ip("127.0.0.1"));
    assert_eq!(config.broadcast_address, Some(ip("10.0.0.5")));
    assert_eq!(config.storage_port, 7001);
    assert_eq!(config.seeds, [seed("10.0.0.5", None), seed("node2", Some(7005))]);
    assert!(warnings.is_empty(), "{warnings:?}");
    let (config, _) = resolve(&["--seeds", "[::1]:7000"], &[], Some(file)).unwrap();
    assert_eq!(config.seeds, [seed("::1", Some(7000))]);
}

#[test]
fn variables_of_cassandras_image_are_between_file_and_flags() {
    let file = "listen_address: auto\nrpc_address: 0.0.0.0\nrack: r0\ndc: d0\nnum_tokens: 1\n";
    let variables = [
        ("CASSANDRA_SEEDS", "node1,node2"),
        ("CASSANDRA_CLUSTER_NAME", "north"),
        ("CASSANDRA_NUM_TOKENS", "8"),
        ("CASSANDRA_DC", "d1"),
        ("CASSANDRA_RACK", "r1"),
        ("CASSANDRA_BROADCAST_ADDRESS", ""),
        ("CASSANDRA_ENDPOINT_SNITCH", "GossipingPropertyFileSnitch"),
        ("MAX_HEAP_SIZE", "512M"),
        ("CASSANDRA_PORT_9042_TCP", "tcp://172.17.0.1:9042"),
        ("CASSANDRA_CLUSTERNAME", "x"),
    ];
    let (config, warnings) = resolve(&["--rack", "r2"], &variables, Some(file)).unwrap();
    assert_eq!(config.seeds, [seed("node1", None), seed("node2", None)]);
    assert_eq!((config.cluster_name(), config.token_count), ("north", 8));
    assert_eq!((&*config.data_center, &*config.rack), ("d1", "r2"));
    // Not loopback, and of the old family.
    assert_eq!((config.address, config.listen_address()), (ip("0.0.0.0"), ip("172.18.0.9")));
    assert_eq!(config.broadcast_rpc_address, Some(ip("172.18.0.9")), "as other nodes are told");
    assert!(warnings[0].contains("CASSANDRA_ENDPOINT_SNITCH has no effect"), "{warnings:?}");
    assert!(warnings[1].contains("MAX_HEAP_SIZE has no effect"), "{warnings:?}");
    assert!(warnings[2].contains("nearest known one is CASSANDRA_CLUSTER_NAME"), "{warnings:?}");
    assert_eq!(warnings.len(), 3, "{warnings:?}");
}

#[test]
fn addresses_may_be_names_and_what_is_overridden_need_not_exist() {
    let variables = [
        ("CASSANDRA_LISTEN_ADDRESS", "nowhere"),
        ("CASSANDRA_BROADCAST_RPC_ADDRESS", "10.0.0.7"),
        ("CASSANDRA_RPC_ADDRESS", "0.0.0.0"),
    ];
    let arguments = ["--listen-address", "node2", "--broadcast-address", "localhost"];
    let (config, _) = resolve(&arguments, &variables, None).unwrap();
    assert_eq!(config.listen_address, Some(ip("172.18.0.2")));
    assert_eq!(config.broadcast_address, Some(ip("127.0.0.1")));
    assert_eq!(config.broadcast_rpc_address, Some(ip("10.0.0.7")));
    for (name, key) in [("nowhere", "nobody knows it"), ("empty", "the name has none")] {
        let error = resolve(&["--address", name], &[], None).unwrap_err();
        assert_eq!(error.0, format!("--address: `{name}` is no address: {key}"));
    }
}

#[test]
fn arguments_of_scylladbs_container_are_taken() {
    let arguments = [
        "--seeds=node2",
        "--smp",
        "1",
        "--overprovisioned",
        "1",
        "--memory",
        "750M",
        "--rpc-address",
        "node2",
        "--listen-address",
        "auto",
        "--developer-mode",
        "1",
    ];
    let (config, warnings) = resolve(&arguments, &[], None).unwrap();
    assert_eq!((config.shard_count, config.memory_bytes), (Some(1), 750 << 20));
    assert_eq!((config.address, config.listen_address()), (ip("172.18.0.2"), ip("172.18.0.9")));
    let expected = ["--overprovisioned", "--developer-mode"];
    assert_eq!(warnings, expected.map(|flag| format!("{flag} has no effect in Tethys")));
}

#[test]
fn unknown_keys_are_warned_of_with_the_nearest_one() {
    let file = "clustername: x\nendpoint_snitch: y\n";
    let (_, warnings) = resolve(&[], &[], Some(file)).unwrap();
    assert!(warnings[0].contains("`clustername`") && warnings[0].contains("`cluster_name`"));
    assert!(warnings[1].contains("has no effect"));
}

#[test]
fn values_that_make_no_sense_name_their_key() {
    for (arguments, file, key) in [
        (&["--shards", "65"][..], None, "shards"),
        (&["--memory", "12Q"], None, "--memory"),
        (&["--memory", "1M"], None, "memory"),
        (&["--address", "nowhere"], None, "--address"),
        (&["--seeds", "a:b"], None, "--seeds"),
        (&["--seeds", "a", "--address", "0.0.0.0"], None, "broadcast_address"),
        (&["--broadcast-rpc-address", "0.0.0.0"], None, "broadcast_rpc_address"),
        (&["--num-tokens", "0"], None, "num_tokens"),
        (&["--rack", ""], None, "rack"),
        (&[], Some("cluster_name: ''"), "cluster_name"),
        (&[], Some("seed_provider: here"), "seed_provider"),
        (&[], Some("listen_address: eth0"), "listen_address"),
        (&["--commitlog-sync", "never"], None, "--commitlog-sync"),
        (&[], Some("num_tokens: many"), "num_tokens"),
        (&[], Some("data_file_directories: [a, b]"), "data_file_directories"),
        (&[], Some("}{"), "YAML"),
    ] {
        let error = resolve(arguments, &[], file).unwrap_err();
        assert!(error.0.contains(key), "{error:?}");
    }
    for (name, value) in [("CASSANDRA_NUM_TOKENS", "many"), ("CASSANDRA_SEEDS", "a b")] {
        let error = resolve(&[], &[(name, value)], None).unwrap_err();
        assert!(error.0.contains(name), "{error:?}");
    }
}

#[test]
fn a_host_id_is_read_as_it_is_shown() {
    let id = 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef;
    assert_eq!(parse_host_id("01234567-89ab-cdef-0123-456789abcdef"), Some(id));
    assert_eq!(parse_host_id("0123456789ABCDEF0123456789abcdef"), Some(id));
    assert_eq!(parse_host_id(&crate::statement::format_uuid(id)), Some(id));
    for text in ["", "1", "+123456789abcdef0123456789abcdef", &"0".repeat(33)] {
        assert_eq!(parse_host_id(text), None, "{text}");
    }
    assert_eq!(value::host_id("--replace", ""), Ok(None), "a variable that was left empty");
    let error = value::host_id("--replace", "127.0.0.3").unwrap_err().to_string();
    assert!(error.contains("--replace: `127.0.0.3` is no host id"), "{error}");
}
