//! A node's operator: sits at its machine, and asks it over HTTP for one thing after the other, each
//! again and again until it is done, whatever becomes of the node.

use crate::cluster::Order;
use env::{Clock, Net};
use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const HTTP_PORT: u16 = 9180;
/// How often a node is asked.
const PAUSE: Duration = Duration::from_millis(200);
/// How long it may take to answer.
const PATIENCE: Duration = Duration::from_secs(20);
const DONE: u16 = 200;

/// What is asked of a node, and what it said last.
#[derive(Debug, Default)]
pub(crate) struct Operator {
    order: RefCell<Option<Order>>,
    answer: RefCell<Option<(u16, String)>>,
}

impl Operator {
    /// To be asked from now on.
    pub(crate) fn give(&self, order: Order) {
        *self.order.borrow_mut() = Some(order);
        *self.answer.borrow_mut() = None;
    }

    /// Nothing more is asked.
    pub(crate) fn forget(&self) {
        *self.order.borrow_mut() = None;
    }

    /// Whether the node has said so.
    pub(crate) fn is_done(&self) -> bool {
        self.answer.borrow().as_ref().is_some_and(|(status, _)| *status == DONE)
    }

    /// What the node said last, if anything.
    pub(crate) fn answer(&self) -> Option<(u16, String)> {
        self.answer.borrow().clone()
    }

    /// Asks for as long as the node runs.
    pub(crate) async fn work(&self, net: Net, clock: &Clock) {
        loop {
            clock.sleep(PAUSE).await;
            let order = self.order.borrow().clone().filter(|_| !self.is_done());
            let Some(order) = order else { continue };
            let here = IpAddr::from([127, 0, 0, 1]);
            let asked = tokio::time::timeout(PATIENCE, ask(net, here, &order)).await;
            // There may be another order meanwhile.
            let is_newest = self.order.borrow().as_ref() == Some(&order);
            if let Ok(Ok(answer)) = asked
                && is_newest
            {
                *self.answer.borrow_mut() = Some(answer);
            }
        }
    }
}

/// The status and the body of a node's answer.
pub(crate) async fn ask(
    net: Net,
    node: IpAddr,
    Order { method, path }: &Order,
) -> io::Result<(u16, String)> {
    let mut stream = net.connect(SocketAddr::new(node, HTTP_PORT)).await?;
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: node\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::InvalidData)?;
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok());
    Ok((status.ok_or(io::ErrorKind::InvalidData)?, body.trim().to_owned()))
}
