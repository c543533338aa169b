//! A node that belongs to no cluster, at its first start: asks its seeds until it knows whether to
//! found a cluster, or has joined one. What is decided is `cluster::founding`'s; here the seeds are
//! looked up and asked, all at the same time, again and again, and the operator is told what is
//! waited for.

use crate::config::Seed;
use crate::internode::{self, Joining};
use crate::metadata::Snapshot;
use crate::node::{Shared, StartError};
use cluster::HostId;
use cluster::founding::{Decision, SeedState, decide};
use cluster::peer::{Identity, IntroductionError, RefusalCode, introduce};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// How long to wait before the seeds are asked again.
const ROUND_PAUSE: Duration = Duration::from_millis(250);
/// How long whoever has this node's address may take to say who it is.
const OWN_ADDRESS_TIME_MAX: Duration = Duration::from_millis(500);
/// How often the log says what is waited for.
const REPORT_INTERVAL: Duration = Duration::from_secs(5);

/// Returns when this node is to found a cluster, with nothing, or is let into one, with what it
/// starts from.
pub(crate) async fn find_cluster(
    shared: &Arc<Shared>,
) -> Result<Option<Box<Snapshot>>, StartError> {
    let clock = &shared.env.clock;
    let began_nanos = clock.monotonic_nanos();
    let mut reported = None;
    loop {
        let mut heard = ask_all(shared).await;
        let states: Vec<SeedState> = heard.iter().map(|heard| heard.state).collect();
        let waited = Duration::from_nanos(clock.monotonic_nanos().saturating_sub(began_nanos));
        let seed = |position: usize| shared.config.seeds[position].clone();
        match decide(&states, waited) {
            Decision::Found => {
                let replaced = shared.config.replaces.map(HostId);
                return replaced.map_or(Ok(None), |host| Err(StartError::NothingToReplace(host)));
            }
            Decision::Join(position) => {
                let asked = &mut heard[position];
                match try_to_join(shared, seed(position), asked.host_id).await? {
                    Ok(snapshot) => return Ok(Some(snapshot)),
                    Err(reason) => asked.text = reason,
                }
            }
            Decision::Stop(position) => {
                return Err(StartError::Seed(seed(position), heard[position].text.clone()));
            }
            Decision::Torn(one, other) => {
                return Err(StartError::TornSeeds(seed(one), seed(other)));
            }
            Decision::Wait => {}
        }
        if reported.is_none_or(|reported| waited >= reported + REPORT_INTERVAL) {
            reported = Some(waited);
            tracing::info!("waiting for the cluster: {}", describe(shared, &heard));
        }
        clock.sleep(ROUND_PAUSE).await;
    }
}

/// Asks a member to be let in. Returns what this node starts from, or what to wait for; the error is
/// why not to.
async fn try_to_join(
    shared: &Shared,
    seed: Seed,
    member: HostId,
) -> Result<Result<Box<Snapshot>, String>, StartError> {
    Ok(match internode::ask_to_join(shared, member).await {
        Ok(Joining::Admitted(snapshot)) => Ok(snapshot),
        Ok(Joining::Refused { reason, is_passing: true }) => Err(reason),
        Ok(Joining::Refused { reason, .. }) => return Err(StartError::JoinRefused(seed, reason)),
        Err(error) => Err(format!("asked to join: {error}")),
    })
}

/// What was heard of one seed, and in words.
#[derive(Clone, Debug)]
struct Heard {
    state: SeedState,
    text: String,
    /// Who it is, if it says so.
    host_id: HostId,
}

impl Heard {
    fn new(state: SeedState, text: impl Into<String>) -> Heard {
        Heard { state, text: text.into(), host_id: HostId(0) }
    }
}

/// Asks all seeds at once; the answers are in the order of the list.
async fn ask_all(shared: &Arc<Shared>) -> Vec<Heard> {
    let mut asking = JoinSet::new();
    for (position, seed) in shared.config.seeds.iter().enumerate() {
        let (shared, seed) = (shared.clone(), seed.clone());
        asking.spawn_local(async move { (position, ask(&shared, &seed).await) });
    }
    let silent = Heard::new(SeedState::Silent, "does not answer");
    let mut heard = vec![silent; shared.config.seeds.len()];
    while let Some(answer) = asking.join_next().await {
        // A task that was cancelled has said nothing.
        if let Ok((position, answer)) = answer {
            heard[position] = answer;
        }
    }
    heard
}

/// Asks the seed that has this node's own address, which mostly is this node. It may be another, if
/// this one is told to give out the address of that. Who cannot reach its own address from inside is
/// believed.
async fn ask_own_address(shared: &Shared, us: SocketAddr) -> Heard {
    let asking = introduce(&shared.env, &shared.registry, us);
    if let Ok(Err(error)) = tokio::time::timeout(OWN_ADDRESS_TIME_MAX, asking).await
        && let state @ (SeedState::Taken | SeedState::Foreign) = state_of(&error)
    {
        return Heard::new(state, error.to_string());
    }
    Heard::new(SeedState::Itself, "is this node")
}

/// Asks one seed, at each of its addresses until one answers.
async fn ask(shared: &Shared, seed: &Seed) -> Heard {
    let us = shared.broadcast_address();
    if seed.is_at(us) {
        return ask_own_address(shared, us).await;
    }
    let addresses = shared.env.net.resolve(&seed.host, seed.port.unwrap_or(us.port())).await;
    let addresses = match addresses {
        Ok(addresses) => addresses,
        Err(error) => return Heard::new(SeedState::Silent, error.to_string()),
    };
    let mut heard = Heard::new(SeedState::Silent, "has no address");
    for address in addresses {
        heard = match introduce(&shared.env, &shared.registry, address).await {
            Ok(Identity { cluster_id, host_id, .. }) => match cluster_id {
                Some(cluster_id) => Heard {
                    state: SeedState::Member { cluster_id },
                    text: "belongs to a cluster".to_owned(),
                    host_id,
                },
                None => Heard::new(SeedState::Alone, "belongs to no cluster yet"),
            },
            Err(error) => Heard::new(state_of(&error), error.to_string()),
        };
        if heard.state != SeedState::Silent {
            break;
        }
    }
    heard
}

/// What an introduction that failed says of the seed.
fn state_of(error: &IntroductionError) -> SeedState {
    match error {
        IntroductionError::Itself => SeedState::Itself,
        IntroductionError::ClusterName { .. }
        | IntroductionError::AnotherCluster { .. }
        | IntroductionError::Version { .. } => SeedState::Foreign,
        IntroductionError::HostIdInUse { .. }
        | IntroductionError::AddressInUse { .. }
        | IntroductionError::Overtaken { .. } => SeedState::Taken,
        IntroductionError::Refused { code, .. } => match code {
            RefusalCode::Version
            | RefusalCode::ClusterName
            | RefusalCode::AnotherCluster
            | RefusalCode::Removed => SeedState::Foreign,
            RefusalCode::HostIdInUse | RefusalCode::AddressInUse | RefusalCode::Outdated => {
                SeedState::Taken
            }
            _ => SeedState::Silent,
        },
        _ => SeedState::Silent,
    }
}

fn describe(shared: &Shared, heard: &[Heard]) -> String {
    let seeds = shared.config.seeds.iter().zip(heard);
    let words: Vec<String> = seeds.map(|(seed, heard)| format!("{seed}: {}", heard.text)).collect();
    words.join("; ")
}
