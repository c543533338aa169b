//! Golden scripts over a simulated group.
//!
//! ```text
//! group VOTERS [learners=…]     start a group of new members (lists are 1,2,3)
//! join ID VOTERS                start a new member that believes in these voters
//! campaign ID                   propose ID BYTES          resend ID TO
//! change ID add=ID|promote=ID|remove=ID
//! sync ID [COUNT]               finish its oldest writes (all of them by default)
//! deliver FROM TO [COUNT]       hand over messages of a link, oldest first (all by default)
//! last FROM TO                  hand over the newest message of a link
//! drop FROM TO [COUNT]          lose messages;   double FROM TO: repeat the oldest
//! cut ID                        lose everything to and from a member;   heal: stop that
//! crash ID [KEPT]               stop, with the first KEPT unfinished writes on the disk
//! restart ID                    discard ID INDEX          snapshot FROM TO
//! settle                        until nothing is under way
//! quiet COMMAND …               the same, without its trace
//! status                        who leads, and every log
//! ```

use super::super::*;
use super::simulation::{Simulation, host};
use crate::golden::{self, Command, Interpreter};
use crate::ring::HostId;
use crate::rules::{Rule, is_noticed};
use std::sync::Arc;

#[derive(Default)]
struct Script {
    simulation: Simulation,
}

impl Interpreter for Script {
    fn run(&mut self, command: &Command) -> Result<String, String> {
        let quiet = command.name == "quiet";
        let words = &command.words[usize::from(quiet)..];
        let name = if quiet { *command.words.first().ok_or("quiet what?")? } else { command.name };
        self.execute(name, words, command)?;
        let trace = std::mem::take(&mut self.simulation.trace);
        if name == "status" {
            return Ok(self.simulation.status());
        }
        Ok(if quiet { String::new() } else { trace })
    }
}

impl Script {
    fn execute(&mut self, name: &str, words: &[&str], command: &Command) -> Result<(), String> {
        let word = |position: usize| -> Result<u64, String> {
            let word = words.get(position).ok_or_else(|| format!("{name} misses a word"))?;
            word.parse().map_err(|_| format!("{word} is no number"))
        };
        let count = |position: usize| word(position).map_or(usize::MAX, |count| count as usize);
        let simulation = &mut self.simulation;
        match name {
            "status" => {}
            "settle" => simulation.settle(),
            "heal" => simulation.cuts.clear(),
            "group" => {
                let voters = hosts(words.first().copied().unwrap_or_default())?;
                let learners = hosts(command.get("learners").unwrap_or_default())?;
                let members = Arc::new(Membership { voters, learners });
                for member in members.members() {
                    simulation.add(member.0 as u64, &members);
                }
            }
            "join" => {
                let voters = hosts(words.get(1).copied().unwrap_or_default())?;
                simulation.add(word(0)?, &Arc::new(Membership::of_voters(voters)));
            }
            "campaign" => simulation.step(word(0)?, Input::Campaign, &[]),
            "propose" => {
                let bytes = words.get(1).ok_or("propose what?")?;
                simulation.step(word(0)?, Input::Propose, &[(*bytes).to_owned()]);
            }
            "resend" => simulation.step(word(0)?, Input::Resend { to: host(word(1)?) }, &[]),
            "change" => {
                let (verb, id) = command.named().first().copied().ok_or("change what?")?;
                let id = hosts(id)?[0];
                let change = match verb {
                    "add" => Change::AddLearner(id),
                    "promote" => Change::Promote(id),
                    "remove" => Change::Remove(id),
                    _ => return Err(format!("no change {verb}")),
                };
                simulation.step(word(0)?, Input::ChangeMembers(change), &[]);
            }
            "sync" => {
                let id = word(0)?;
                (0..count(1)).take_while(|_| simulation.sync_one(id)).for_each(drop);
            }
            "deliver" | "drop" | "double" | "last" => {
                let link = (word(0)?, word(1)?);
                self.on_link(name, link, count(2))?;
            }
            "cut" => {
                let id = word(0)?;
                let others = simulation.members.keys().filter(|&&other| other != id);
                let cuts: Vec<(u64, u64)> = others.map(|&other| (id, other)).collect();
                simulation.cuts.extend(cuts);
                simulation.network.retain(|packet| packet.from != id && packet.to != id);
            }
            "crash" => simulation.crash(word(0)?, word(1).unwrap_or(0) as usize),
            "snapshot" => simulation.install_snapshot(word(0)?, word(1)?),
            "restart" => simulation.restart(word(0)?),
            "discard" => simulation.discard(word(0)?, LogIndex(word(1)?)),
            other => return Err(format!("no command {other}")),
        }
        Ok(())
    }

    fn on_link(&mut self, name: &str, link: (u64, u64), count: usize) -> Result<(), String> {
        let simulation = &mut self.simulation;
        let is_of_link = |packet: &super::simulation::Packet| (packet.from, packet.to) == link;
        let network = &simulation.network;
        // Only what is under way now: an answer may put more on the link.
        let waiting = network.iter().filter(|packet| is_of_link(packet)).count().min(count);
        if waiting == 0 {
            return Err(format!("nothing is under way from {} to {}", link.0, link.1));
        }
        match name {
            "last" => {
                let position = network.iter().rposition(is_of_link).ok_or("no message")?;
                simulation.deliver(position);
            }
            "double" => {
                let position = network.iter().position(is_of_link).ok_or("no message")?;
                let copy = network[position].clone();
                simulation.network.insert(position, copy);
            }
            _ => {
                for _ in 0..waiting {
                    let position = simulation.network.iter().position(is_of_link);
                    let position = position.ok_or("no message")?;
                    if name == "drop" {
                        simulation.network.remove(position);
                    } else {
                        simulation.deliver(position);
                    }
                }
            }
        }
        Ok(())
    }
}

fn hosts(list: &str) -> Result<Vec<HostId>, String> {
    let numbers = list.split(',').filter(|number| !number.is_empty());
    numbers
        .map(|number| number.parse().map(host).map_err(|_| format!("{number} is no member")))
        .collect()
}

#[test]
fn rules_hold_as_the_scripts_show() {
    golden::run_folder("consensus", Script::default);
}

#[test]
fn each_rule_broken_is_noticed_by_a_script() {
    if model::golden::is_update() {
        // The scripts would be rewritten as the broken rule has them.
        return;
    }
    let rules = [
        Rule::CommitsOwnTerm,
        Rule::CompleteLogsOnly,
        Rule::OneChangeAtATime,
        Rule::VotesAreSynced,
    ];
    for rule in rules {
        let run = |_| golden::run_folder("consensus", Script::default);
        assert!(is_noticed(rule, 0..1, run), "{rule:?} was broken, and nothing noticed");
    }
}
