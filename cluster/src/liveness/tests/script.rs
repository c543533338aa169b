//! Golden scripts over simulated nodes.
//!
//! ```text
//! nodes COUNT [clocks=…]        start nodes that never ran; clocks in ms at true time 0
//! wait MS                       let true time pass; nobody notices before `tick`
//! tick ID                       run a node's timers
//! deliver FROM TO [COUNT]       hand over messages of a link, oldest first (all by default)
//! drop FROM TO                  lose them;   double FROM TO: repeat the oldest
//! settle                        hand over messages until none is under way
//! run MS                        pass time in steps of 100 ms, ticking and settling
//! stop ID                       start ID
//! decline ID PEER               accept ID PEER
//! quiet COMMAND …               the same, without its trace
//! status
//! ```

use super::simulation::{Simulation, host};
use crate::golden::{self, Command, Interpreter};

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
        let simulation = &mut self.simulation;
        match name {
            "status" => {}
            "nodes" => {
                let clocks = command.get("clocks").unwrap_or_default();
                let mut clocks = clocks.split(',').map(|ms| ms.parse::<u64>().unwrap_or(0));
                for id in 1..=word(0)? {
                    let start = clocks.next().unwrap_or(0) * 1_000_000;
                    simulation.add(id, start, 1_000_000);
                }
                (1..=word(0)?).for_each(|id| simulation.start(id));
            }
            "wait" => simulation.nanos += word(0)? * 1_000_000,
            "tick" => simulation.tick(word(0)?),
            "stop" => simulation.stop(word(0)?),
            "start" => simulation.start(word(0)?),
            "decline" | "accept" => {
                let peer = host(word(1)?);
                let is_declined = name == "decline";
                simulation.act(word(0)?, |liveness, _| liveness.set_declined(peer, is_declined));
            }
            "settle" => {
                while !simulation.network.is_empty() {
                    simulation.deliver(0);
                }
            }
            "run" => {
                let ids: Vec<u64> = simulation.nodes.keys().copied().collect();
                for _ in 0..word(0)? / 100 {
                    simulation.nanos += 100_000_000;
                    for &id in &ids {
                        simulation.tick(id);
                    }
                    while !simulation.network.is_empty() {
                        simulation.deliver(0);
                    }
                }
            }
            "deliver" | "drop" | "double" => {
                let link = (word(0)?, word(1)?);
                let count = word(2).map_or(usize::MAX, |count| count as usize);
                self.on_link(name, link, count)?;
            }
            other => return Err(format!("no command {other}")),
        }
        Ok(())
    }

    fn on_link(&mut self, name: &str, link: (u64, u64), count: usize) -> Result<(), String> {
        let simulation = &mut self.simulation;
        let waiting = simulation.network.iter().filter(|p| (p.from, p.to) == link).count();
        if waiting == 0 {
            return Err(format!("nothing is under way from {} to {}", link.0, link.1));
        }
        let count = if name == "double" { 1 } else { waiting.min(count) };
        for _ in 0..count {
            let position = simulation.network.iter().position(|p| (p.from, p.to) == link);
            let position = position.ok_or("no message")?;
            match name {
                "deliver" => simulation.deliver(position),
                "drop" => drop(simulation.network.remove(position)),
                _ => simulation.network.push(simulation.network[position].clone()),
            }
        }
        Ok(())
    }
}

#[test]
fn rules_hold_as_the_scripts_show() {
    golden::run_folder("liveness", Script::default);
}
