//! Golden scripts over a simulated cluster without faults of its own.
//!
//! ```text
//! cluster NODES [voters=COUNT]  start nodes with one group, led best by node 1, clocks in step
//! run MS                        pass time in steps of 5 ms
//! write ID    read ID           propose a write; read under the lease
//! campaign ID                   campaign without having asked, unless a promise stands against it
//! beat ID                       tell followers what time is closed
//! transfer ID TO                hand leadership over
//! change ID add=ID|promote=ID|remove=ID
//! crash ID    start ID          lose what was not synced; start again
//! pause ID MS                   do nothing for that long
//! cut FROM TO                   lose what is sent from one to the other
//! isolate ID  heal
//! flush ID                      snapshot what is applied, and drop the log up to there
//! status                        who leads, until when, and whom others are fenced to
//! ```

use super::node::{Node, host};
use super::world::World;
use crate::consensus::Change;
use crate::golden::{self, Command, Interpreter};
use crate::placement::GroupId;
use crate::rules::{Rule, is_noticed};
use std::fmt::Write as _;

const GROUP: GroupId = GroupId(1);

#[derive(Default)]
struct Script {
    world: Option<World>,
}

impl Interpreter for Script {
    fn run(&mut self, command: &Command) -> Result<String, String> {
        if command.name == "cluster" {
            let count = command.word(0)?;
            let voters = command.get("voters").map_or(Ok(count), str::parse);
            let voters = voters.map_err(|_| "how many voters?".to_owned())?;
            self.world = Some(World::in_step(count, voters));
            return Ok(String::new());
        }
        let world = self.world.as_mut().ok_or("no cluster yet")?;
        execute(world, command)
    }
}

fn execute(world: &mut World, command: &Command) -> Result<String, String> {
    let id = || command.word::<u64>(0);
    let done = |is_done: bool, what: &str| {
        if is_done { String::new() } else { format!("{what} is refused") }
    };
    match command.name {
        "status" => return Ok(status(world)),
        "run" => {
            for _ in 0..id()? / 5 {
                world.pass(5_000_000);
            }
        }
        "write" => {
            let value = world.next_value();
            let is_done = world.with(id()?, |node, context| node.propose(GROUP, value, 0, context));
            return Ok(done(is_done, "the write"));
        }
        "read" => {
            let is_done = world.with(id()?, |node, context| node.begin_read(GROUP, context));
            return Ok(done(is_done, "the read"));
        }
        "campaign" => world.with(id()?, |node, context| node.campaign(GROUP, context)),
        "beat" => world.with(id()?, |node, context| node.beat(GROUP, context)),
        "transfer" => {
            let to = command.word(1)?;
            let is_done = world.with(id()?, |node, context| node.transfer(GROUP, to, context));
            return Ok(done(is_done, "the transfer"));
        }
        "change" => {
            let (verb, other) = command.named().first().copied().ok_or("change what?")?;
            let other = host(other.parse().map_err(|_| "which node?".to_owned())?);
            let change = match verb {
                "add" => Change::AddLearner(other),
                "promote" => Change::Promote(other),
                "remove" => Change::Remove(other),
                _ => return Err(format!("no change {verb}")),
            };
            world.with(id()?, |node, context| node.change(GROUP, change, context));
        }
        "crash" => world.nodes.get_mut(&id()?).ok_or("no node")?.crash(0),
        "start" => world.start(id()?),
        "pause" => {
            let until = world.nanos + command.word::<u64>(1)? * 1_000_000;
            world.nodes.get_mut(&id()?).ok_or("no node")?.paused_until = until;
        }
        "cut" => drop(world.network.cuts.insert((id()?, command.word(1)?))),
        "isolate" => {
            let id = id()?;
            let others = world.nodes.keys().copied().filter(|&other| other != id);
            world.network.cuts.extend(others.flat_map(|other| [(id, other), (other, id)]));
        }
        "heal" => world.network.cuts.clear(),
        "flush" => world.with(id()?, |node, _| node.flush(GROUP)),
        other => return Err(format!("no command {other}")),
    }
    Ok(String::new())
}

fn status(world: &World) -> String {
    let mut status = String::new();
    for (id, node) in &world.nodes {
        match show(world, node) {
            Some(line) => writeln!(status, "{id} {line}").unwrap(),
            None => writeln!(status, "{id} is down").unwrap(),
        }
    }
    status
}

fn show(world: &World, node: &Node) -> Option<String> {
    let up = node.up.as_ref()?;
    let (group, leadership) = up.replicas.cores(GROUP);
    let now = node.clock(world.nanos);
    let mut line = match group.leader() {
        Some(leader) if leader == host(node.id) => "leads".to_owned(),
        Some(leader) => format!("follows {}", leader.0),
        None => "waits".to_owned(),
    };
    let (term, last, applied) = (group.term().0, group.last(), up.replicas.applied(GROUP).0);
    write!(line, ", term {term}, log to {last}, applied {applied}").unwrap();
    if group.is_leader() {
        let until = leadership.lease_until(group, &up.liveness);
        let left = until.map_or(0, |until| until.0.saturating_sub(now.0) / 1_000_000);
        let serves = leadership.may_serve(group, &up.liveness, now);
        let serves = if serves { "serves" } else { "does not serve" };
        write!(line, ", lease {left} ms, {serves}").unwrap();
    }
    if let Some(fence) = leadership.fence() {
        write!(line, ", fenced to {} in term {}", fence.leader.0, fence.term.0).unwrap();
    }
    let closed = up.state.closed(GROUP);
    if closed > 0 {
        // Relative to true time, as wall clocks show it here.
        write!(line, ", closed {} ms ago", (node.wall(world.nanos) - closed) / 1_000).unwrap();
    }
    Some(line)
}

#[test]
fn rules_hold_as_the_scripts_show() {
    golden::run_folder("leadership", Script::default);
}

#[test]
fn each_rule_broken_is_noticed_by_a_script() {
    if model::golden::is_update() {
        // The scripts would be rewritten as the broken rule has them.
        return;
    }
    let rules = [
        Rule::FencesHoldVotes,
        Rule::LeaseCountsTheEpoch,
        Rule::RestartWaits,
        Rule::BeatsNameATerm,
    ];
    for rule in rules {
        let run = |_| golden::run_folder("leadership", Script::default);
        assert!(is_noticed(rule, 0..1, run), "{rule:?} was broken, and nothing noticed");
    }
}
