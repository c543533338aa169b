//! Tests of the ring: replica sets by golden scripts, and chosen tokens.

use super::*;
use crate::golden::{self, Command, Interpreter};
use crate::range::{CUTS_MIN, Ranges, cut_tokens, position_of};
use std::collections::BTreeMap;

/// A node for tests, at an address that nobody dials.
pub(crate) fn node(host: u128, data_centre: &str, rack: &str, tokens: &[i64]) -> Node {
    let address = SocketAddr::from(([127, 0, 0, host as u8], 7000));
    Node {
        host_id: HostId(host),
        data_centre: data_centre.into(),
        rack: rack.into(),
        internode_address: address,
        cql_address: address,
        tokens: tokens.iter().copied().map(Token).collect(),
    }
}

/// `node HOST dc=… rack=… tokens=…,…` and `replicas TOKEN [local] [simple=N] [CENTRE=N …]`.
#[derive(Default)]
struct RingScript {
    nodes: Vec<Node>,
}

impl Interpreter for RingScript {
    fn run(&mut self, command: &Command) -> Result<String, String> {
        match command.name {
            "node" => {
                let tokens = command.get("tokens").unwrap_or("").split(',');
                let tokens: Result<Vec<i64>, _> = tokens.map(str::parse).collect();
                self.nodes.push(node(
                    command.word::<u128>(0)?,
                    command.get("dc").unwrap_or("dc1"),
                    command.get("rack").unwrap_or("r1"),
                    &tokens.map_err(|_| "tokens cannot be read")?,
                ));
                Ok(String::new())
            }
            "replicas" => {
                let ring = Ring::new(self.nodes.clone()).map_err(|error| error.to_string())?;
                let token = command.word(0)?;
                let number = |text: &str| text.parse::<u32>().map_err(|error| error.to_string());
                let replication = if command.words.contains(&"local") {
                    Replication::Local
                } else if let Some(factor) = command.get("simple") {
                    Replication::Simple { factor: number(factor)? }
                } else {
                    let mut factors = BTreeMap::new();
                    for (name, factor) in command.named() {
                        factors.insert((*name).to_owned(), number(factor)?);
                    }
                    Replication::NetworkTopology { factors }
                };
                let replicas = ring.replicas(&replication, Token(token), NodeIndex(0));
                let hosts: Vec<String> =
                    replicas.iter().map(|&index| ring.node(index).host_id.0.to_string()).collect();
                Ok(format!("{token}: {}", hosts.join(" ")))
            }
            other => Err(format!("no command {other}")),
        }
    }
}

#[test]
fn replica_sets_are_those_that_drivers_compute() {
    golden::run_folder("ring", RingScript::default);
}

fn numbers(mut seed: u64) -> impl FnMut() -> u64 {
    move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    }
}

#[test]
fn chosen_tokens_lie_one_in_each_part_and_cut_nothing() {
    let mut random = numbers(0x1234_5678);
    let mut nodes = Vec::new();
    for host in 1..=7 {
        let ring = Ring::new(nodes.clone()).unwrap();
        let tokens = choose_tokens(TOKENS_PER_NODE, &ring, "dc1", &mut random);
        for (part, &token) in tokens.iter().enumerate() {
            assert_eq!(position_of(token) as usize >> 60, part, "host {host}");
        }
        nodes.push(Node { tokens, ..node(host, "dc1", "r1", &[]) });
    }
    let ring = Ring::new(nodes).unwrap();
    assert_eq!(ring.owners().len(), 7 * TOKENS_PER_NODE);
    assert_eq!(ring.ranges(), Ranges::new([], CUTS_MIN), "every token is an even cut");
}

/// How many of the ring's even cuts each node of a data centre owns.
fn cuts_owned(ring: &Ring, data_centre: &str) -> Vec<usize> {
    let factors = BTreeMap::from([(data_centre.to_owned(), 1)]);
    let replication = Replication::NetworkTopology { factors };
    let mut counts = BTreeMap::new();
    for token in cut_tokens(ring.cuts) {
        *counts.entry(ring.replicas(&replication, token, NodeIndex(0))[0]).or_default() += 1;
    }
    counts.into_values().collect()
}

#[test]
fn nodes_own_as_much_as_each_other_in_each_data_centre() {
    for seed in 1..=8 {
        let mut random = numbers(seed << 20 | 0xcafe);
        // The most that one owns to the least that one does, in tenths; few free cuts are a coarse
        // choice.
        for (cuts, data_centres, tenths_max) in [
            (128, &[("dc1", 7)][..], 14),
            (128, &[("dc1", 3), ("dc2", 3)], 15),
            (256, &[("dc1", 8), ("dc2", 4)], 14),
            (1_024, &[("dc1", 12), ("dc2", 12)], 13),
        ] {
            let new = |nodes: &[Node]| Ring::new(nodes.to_vec()).unwrap().with_cuts(cuts).unwrap();
            let mut nodes: Vec<Node> = Vec::new();
            for (data_centre, node_count) in data_centres {
                for count in 1..=*node_count {
                    let ring = new(&nodes);
                    let tokens = choose_tokens(TOKENS_PER_NODE, &ring, data_centre, &mut random);
                    let host = nodes.len() as u128 + 1;
                    nodes.push(Node { tokens, ..node(host, data_centre, "r1", &[]) });
                    let owned = cuts_owned(&new(&nodes), data_centre);
                    let (least, most) = (owned.iter().min().unwrap(), owned.iter().max().unwrap());
                    let is_even = owned.len() == count && most * 10 <= least * tenths_max;
                    assert!(is_even, "{cuts} cuts, {data_centre}: {owned:?}");
                }
            }
        }
    }
}

#[test]
fn nodes_share_what_is_left_and_some_is_left_for_others() {
    let mut random = numbers(0x8765_4321);
    let mut nodes = Vec::new();
    let mut counts = Vec::new();
    loop {
        let ring = Ring::new(nodes.clone()).unwrap().with_cuts(64).unwrap();
        let tokens = choose_tokens(TOKENS_PER_NODE, &ring, "dc1", &mut random);
        if tokens.is_empty() {
            assert_eq!(ring.owners().len(), 64, "every cut is owned");
            break;
        }
        counts.push(tokens.len());
        let host = nodes.len() as u128 + 1;
        nodes.push(Node { tokens, ..node(host, "dc1", "r1", &[]) });
    }
    assert_eq!(counts, [16, 16, 16, 8, 4, 2, 1, 1]);
}

#[test]
fn chosen_tokens_are_free_and_far_whatever_the_draws() {
    let cuts: Vec<Token> = cut_tokens(4).collect();
    let taken = Node { tokens: vec![cuts[1]], ..node(1, "dc1", "r1", &[]) };
    let ring = Ring::new(vec![taken]).unwrap().with_cuts(4).unwrap();
    for draw in [0, 1, u64::MAX] {
        assert_eq!(
            choose_tokens(1, &ring, "dc1", || draw),
            [cuts[3]],
            "the other side of the ring"
        );
        assert_eq!(choose_tokens(2, &ring, "dc1", || draw).len(), 2);
        assert_eq!(choose_tokens(0, &ring, "dc1", || draw), []);
    }
    assert_eq!(ring.with_cuts(3), Err(RingError::Cuts(3)));
}

#[test]
fn nodes_that_share_an_identity_or_a_token_make_no_ring() {
    let new = |nodes: &[Node]| Ring::new(nodes.to_vec()).unwrap_err();
    let first = node(1, "dc1", "r1", &[5, 9]);
    assert_eq!(
        new(&[first.clone(), node(1, "dc1", "r1", &[6])]),
        RingError::DuplicateHost(HostId(1))
    );
    assert_eq!(new(&[first, node(2, "dc1", "r1", &[9])]), RingError::DuplicateToken(Token(9)));
    assert_eq!(new(&[node(1, "dc1", "r1", &[])]), RingError::NoTokens(HostId(1)));
    assert_eq!(new(&[node(1, "dc1", "r1", &[i64::MIN])]), RingError::ReservedToken);
}
