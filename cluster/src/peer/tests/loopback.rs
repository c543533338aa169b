//! Over real sockets: messages both ways, requests, bulk streams, back-pressure, threads.

use super::{Node, identity, peer};
use crate::peer::limits::{
    BATCH_BYTES_MAX, BULK_QUEUE_BYTES_MAX, INBOX_BYTES_MAX, SEND_BUFFER_BYTES_MAX, WINDOW_BYTES,
};
use crate::peer::{
    AskError, Class, Event, Incoming, IncomingStream, Peer, Peers, Registry, SendError,
    StreamError, Unknown, accept_peers,
};
use env::tasks::queue::queue;
use env::{Env, Tasks};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::task::LocalSet;

/// Long enough that no machine is too slow.
const LONG: Duration = Duration::from_mins(1);

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, test);
}

async fn pair() -> (Node, Node) {
    let (a, b) = (Node::on_loopback(1).await, Node::on_loopback(2).await);
    a.knows(&b);
    b.knows(&a);
    (a, b)
}

#[test]
fn messages_of_all_sizes_arrive_in_order_both_ways() {
    run(async {
        let (mut a, mut b) = pair().await;
        let sizes = [0, 1, 300, BATCH_BYTES_MAX, 1_000_000, 7, 5_000_000, 2];
        // The first ones wait for the dial.
        for size in sizes {
            a.send(&b, &vec![size as u8; size]);
        }
        let taken = b.take(sizes.len()).await;
        assert_eq!(taken.iter().map(Vec::len).collect::<Vec<_>>(), sizes);
        for size in sizes {
            b.send(&a, &vec![size as u8; size]);
        }
        let taken = a.take(sizes.len()).await;
        assert_eq!(taken.iter().map(Vec::len).collect::<Vec<_>>(), sizes);
        // Both used the one connection.
        let (of_a, of_b) = (a.peers.figures()[0].1, b.peers.figures()[0].1);
        assert_eq!((of_a.connections, of_b.connections), (1, 1));
        assert_eq!(of_a.sent_messages, sizes.len() as u64);
        assert_eq!(of_b.received_messages, sizes.len() as u64);
        assert_eq!(of_a.sent_bytes, of_b.received_bytes);
        assert!(of_a.is_connected && of_a.waiting_bytes == 0);
    });
}

#[test]
fn both_may_dial_at_once_and_one_connection_is_left() {
    run(async {
        for _ in 0..20 {
            let (mut a, mut b) = pair().await;
            a.peers.connect(b.peer()).unwrap();
            b.peers.connect(a.peer()).unwrap();
            // Whatever is lost while they settle is sent again, as consensus does.
            let (mut a_heard, mut b_heard) = (false, false);
            while !(a_heard && b_heard) {
                a.peers.send(b.peer(), Class::Urgent, &[b"x"]).ok();
                b.peers.send(a.peer(), Class::Urgent, &[b"x"]).ok();
                tokio::time::sleep(Duration::from_millis(1)).await;
                while let Some(event) = a.inbox.try_recv() {
                    a_heard |= matches!(event, Event::Messages { .. });
                }
                while let Some(event) = b.inbox.try_recv() {
                    b_heard |= matches!(event, Event::Messages { .. });
                }
            }
            assert!(a.peers.is_connected(b.peer()) && b.peers.is_connected(a.peer()));
        }
    });
}

/// Answers requests by what they say, for ever.
async fn serve(mut node: Node) {
    loop {
        for incoming in node.messages().await {
            let Incoming::Ask(question, responder) = incoming else { continue };
            assert!(responder.time_left() <= LONG);
            match &question[..] {
                b"refuse" => responder.refuse(),
                b"abandon" => drop(responder),
                b"keep" => {
                    tokio::task::spawn_local(async move {
                        tokio::time::sleep(LONG).await;
                        drop(responder);
                    });
                }
                _ => responder.answer(Class::Bulk, &[b"re: ", &question]).unwrap(),
            }
        }
    }
}

#[test]
fn requests_end_in_an_answer_or_in_what_is_known() {
    run(async {
        let (a, b) = pair().await;
        let to = b.peer();
        let server = tokio::task::spawn_local(serve(b));
        let ask = |question: &[u8], time| a.peers.ask(to, Class::Bulk, &[question], time);
        assert_eq!(ask(b"hello", LONG).await.unwrap(), &b"re: hello"[..]);
        assert_eq!(ask(b"refuse", LONG).await, Err(AskError::Refused));
        let abandoned = Err(AskError::Unknown(Unknown::Abandoned));
        assert_eq!(ask(b"abandon", LONG).await, abandoned);
        let timed_out = Err(AskError::Unknown(Unknown::TimedOut));
        assert_eq!(ask(b"keep", Duration::from_millis(10)).await, timed_out);
        let large = vec![7; 3_000_000];
        assert_eq!(ask(&large, LONG).await.unwrap().len(), large.len() + 4);
        // Many at once, answered in the order of their sending.
        let asked: Vec<_> = (0..1000_u32).map(|n| ask(&n.to_le_bytes(), LONG)).collect();
        for (n, answer) in (0..1000_u32).zip(asked) {
            assert_eq!(answer.await.unwrap()[4..], n.to_le_bytes());
        }
        // One whose connection goes may have been executed.
        let pending = ask(b"keep", LONG);
        assert_eq!(ask(b"hello", LONG).await.unwrap(), &b"re: hello"[..]);
        server.abort();
        assert_eq!(pending.await, Err(AskError::Unknown(Unknown::Disconnected)));
        let nobody = a.peers.ask(peer(9), Class::Bulk, &[b"?"], LONG).await;
        assert_eq!(nobody, Err(AskError::NotSent(SendError::UnknownHost)));
    });
}

#[test]
fn what_never_left_is_known_not_to_have_been_sent() {
    run(async {
        let (a, b) = pair().await;
        let to = b.peer();
        drop(b);
        // It waits for the dial, which fails.
        let asked = a.peers.ask(to, Class::Bulk, &[b"?"], LONG);
        assert_eq!(asked.await, Err(AskError::NotSent(SendError::NotConnected)));
        let asked = a.peers.ask(to, Class::Urgent, &[&vec![0; 100_000]], LONG);
        assert!(matches!(asked.await, Err(AskError::NotSent(_))));
        assert!(a.peers.figures()[0].1.refused_down + a.peers.figures()[0].1.refused_full > 0);
    });
}

#[test]
fn a_shard_that_does_not_take_closes_the_window_and_loses_nothing() {
    run(async {
        let (mut a, mut b) = pair().await;
        a.peers.connect(b.peer()).unwrap();
        a.connected().await;
        let message = [7; 10_000];
        let (mut sent, mut refused_in_a_row) = (0_usize, 0);
        // Full, and still full after the connection had time to take more.
        while refused_in_a_row < 50 {
            match a.peers.send(b.peer(), Class::Bulk, &[&sent.to_le_bytes(), &message]) {
                Ok(()) => (sent, refused_in_a_row) = (sent + 1, 0),
                Err(error) => {
                    assert_eq!(error, SendError::Full);
                    refused_in_a_row += 1;
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
        }
        // All that can hold bytes: the outbox, HTTP/2's buffer, both windows, the inbox, and a
        // batch at each step. The sockets' buffers are within the windows.
        let bound = BULK_QUEUE_BYTES_MAX
            + SEND_BUFFER_BYTES_MAX
            + 2 * WINDOW_BYTES as usize
            + INBOX_BYTES_MAX
            + 4 * BATCH_BYTES_MAX;
        assert!(sent * (message.len() + 8) < bound, "{sent} messages were taken");
        assert!(a.peers.figures()[0].1.refused_full >= 50);
        let taken = b.take(sent).await;
        let numbers: Vec<usize> = taken
            .iter()
            .map(|bytes| usize::from_le_bytes(bytes[..8].try_into().unwrap()))
            .collect();
        assert_eq!(numbers, (0..sent).collect::<Vec<_>>());
        a.send(&b, b"again");
        assert_eq!(b.take(1).await, [b"again"]);
    });
}

#[test]
fn an_urgent_message_passes_all_bulk_that_has_not_left() {
    run(async {
        let (mut a, mut b) = pair().await;
        a.peers.connect(b.peer()).unwrap();
        a.connected().await;
        let bulk = vec![0; 50_000];
        let mut sent = 0;
        // Full twice, with time in between: all that can leave has left.
        for _ in 0..2 {
            while a.peers.send(b.peer(), Class::Bulk, &[&bulk]).is_ok() {
                sent += 1;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        a.peers.send(b.peer(), Class::Urgent, &[b"vote"]).unwrap();
        let taken = b.take(sent + 1).await;
        let place = taken.iter().position(|message| message == b"vote").unwrap();
        let behind_bytes = (sent - place) * bulk.len();
        assert!(behind_bytes > BULK_QUEUE_BYTES_MAX / 2, "it came as number {place} of {sent}");
    });
}

async fn next_stream(node: &mut Node) -> Box<IncomingStream> {
    node.next(|event| match event {
        Event::Stream(stream) => Some(stream),
        _ => None,
    })
    .await
}

#[test]
fn a_bulk_stream_arrives_whole_and_is_answered() {
    run(async {
        let (a, mut b) = pair().await;
        let to = b.peer();
        let sender = async {
            let mut stream = a.peers.open_stream(to, b"head").await.unwrap();
            for fill in 0..100_u8 {
                stream.send(&vec![fill; 100_001]).await.unwrap();
            }
            stream.finish(LONG).await
        };
        let receiver = async {
            let mut stream = next_stream(&mut b).await;
            assert_eq!(stream.head(), &b"head"[..]);
            assert_eq!(stream.peer(), a.peer());
            let mut bytes = Vec::new();
            while let Some(piece) = stream.next().await.unwrap() {
                bytes.extend_from_slice(&piece);
            }
            let expected = (0..100_u8).flat_map(|fill| vec![fill; 100_001]);
            assert!(bytes.iter().copied().eq(expected));
            stream.answer(b"all there").unwrap();
        };
        let (answer, ()) = tokio::join!(sender, receiver);
        assert_eq!(answer.unwrap(), &b"all there"[..]);
    });
}

#[test]
fn a_bulk_stream_that_breaks_is_known_to_both() {
    run(async {
        let (a, mut b) = pair().await;
        let to = b.peer();
        let mut outgoing = a.peers.open_stream(to, b"1").await.unwrap();
        outgoing.send(b"some").await.unwrap();
        let mut incoming = next_stream(&mut b).await;
        assert_eq!(incoming.next().await.unwrap().unwrap(), &b"some"[..]);
        drop(outgoing);
        assert!(matches!(incoming.next().await, Err(StreamError::Broken(_))));
        drop(incoming);

        let mut outgoing = a.peers.open_stream(to, b"2").await.unwrap();
        drop(next_stream(&mut b).await);
        let broken = loop {
            if let Err(error) = outgoing.send(&vec![0; 100_000]).await {
                break error;
            }
        };
        assert!(matches!(broken, StreamError::Broken(_)), "{broken}");
        // Messages have a connection of their own, and room is free for the next stream.
        a.peers.send(to, Class::Bulk, &[b"m"]).unwrap();
        assert_eq!(b.take(1).await, [b"m"]);
        assert!(a.peers.open_stream(to, &vec![0; 40_000]).await.is_err());
        a.peers.open_stream(to, b"3").await.unwrap();
    });
}

#[test]
fn each_shard_is_served_on_its_own_thread() {
    run(async {
        let env = Env::real();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = env.net.bind(any).await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut us = identity(2, address);
        us.shard_count = 2;
        let registry = Registry::new(us).unwrap();
        let mut to_shards = Vec::new();
        for shard in 0..2 {
            let (sender, mut handed_over) = queue(16);
            to_shards.push(sender);
            let (env, registry) = (env.clone(), registry.clone());
            let body = move || async move {
                let (peers, mut inbox) = Peers::new(&env, &registry, shard);
                loop {
                    tokio::select! {
                        accepted = handed_over.recv() => match accepted {
                            Some(accepted) => peers.accept(accepted),
                            None => return,
                        },
                        event = inbox.recv() => if let Event::Messages { messages, .. } = event {
                            for incoming in messages {
                                let Incoming::Ask(_, responder) = incoming else { continue };
                                let thread = std::thread::current();
                                let name = thread.name().unwrap_or("").as_bytes();
                                responder.answer(Class::Urgent, &[name]).unwrap();
                            }
                        },
                    }
                }
            };
            Tasks::real().spawn_shard(&format!("shard-{shard}"), None, body).unwrap();
        }
        let hand_over = move |accepted: crate::peer::Accepted| {
            to_shards[usize::from(accepted.to_shard())]
                .try_send(accepted)
                .map_err(env::tasks::queue::SendError::into_item)
        };
        let accept = accept_peers(&env, &registry, listener, hand_over, |_, error| {
            panic!("{error}");
        });
        let asker = async {
            let a = Node::on_loopback(1).await;
            a.peers.set_address(peer(2).host_id, address);
            for shard in [1, 0, 1] {
                let to = Peer { shard, ..peer(2) };
                let name = a.peers.ask(to, Class::Bulk, &[b"who?"], LONG).await.unwrap();
                assert_eq!(name, format!("shard-{shard}").as_bytes());
            }
        };
        tokio::select! { () = accept => {}, () = asker => {} }
    });
}
