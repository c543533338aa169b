//! A whole simulated node: crashed and restarted by turmoil, over a disk that lost its power.

use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::disk::{OpenMode, Survival};
use crate::{Env, Net};

const COUNTER: &str = "/data/counter";

/// A server that counts the connections it has answered, and syncs the count before it answers.
/// It also counts in a file that it never syncs.
async fn serve(env: Env) -> turmoil::Result {
    env.disk.create_dir_all(Path::new("/data"))?;
    let listener = env.net.bind("0.0.0.0:1".parse()?).await?;
    loop {
        let (mut stream, _) = listener.accept().await?;
        let counter = Path::new(COUNTER);
        let count = if env.disk.exists(counter)? { env.disk.read(counter, 1)?[0] } else { 0 };
        env.disk.write_atomic(counter, &[count + 1])?;
        let careless = env.disk.open(Path::new("/data/careless"), OpenMode::Create)?;
        careless.write_all_at(&[count + 1], 0)?;
        stream.write_all(&[count + 1]).await?;
    }
}

async fn ask(net: Net) -> Option<u8> {
    let address = net.resolve("node", 1).await.ok()?[0];
    let exchange = async {
        let mut stream = net.connect(address).await.ok()?;
        stream.read_u8().await.ok()
    };
    tokio::time::timeout(Duration::from_millis(500), exchange).await.ok()?
}

#[test]
fn a_simulated_node_keeps_what_it_synced_over_a_crash() {
    let (env, control) = Env::simulated(11, 0);
    let mut simulation = turmoil::Builder::new().rng_seed(11).build();
    let node_env = env.clone();
    simulation.host("node", move || serve(node_env.clone()));
    simulation.client("first", async {
        assert_eq!(ask(Net::simulated()).await, Some(1));
        assert_eq!(ask(Net::simulated()).await, Some(2));
        Ok(())
    });
    simulation.run().unwrap();

    simulation.crash("node");
    control.disk.restart(Survival::SyncedOnly);
    assert_eq!(env.disk.read(Path::new(COUNTER), 1).unwrap(), [2]);
    // Its name was synced together with the second count's, its bytes never.
    assert_eq!(env.disk.read(Path::new("/data/careless"), 1).unwrap(), []);
    simulation.bounce("node");
    simulation.client("second", async {
        assert_eq!(ask(Net::simulated()).await, Some(3));
        Ok(())
    });
    simulation.run().unwrap();
}

#[test]
fn the_real_environment_has_a_time_and_files() {
    let env = Env::real();
    let folder = tempfile::tempdir().unwrap();
    env.disk.write_atomic(&folder.path().join("f"), b"x").unwrap();
    assert!(env.clock.now_seconds() > 1_700_000_000);
}
