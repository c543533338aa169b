//! A bounded queue from many threads to one, for hops between shards and to workers.
//!
//! Waking a sleeping thread is what a hop costs (some 40 microseconds; the queue itself: 0.07).
//! So a receiver that is awake is never woken, and a sender with several items can put them all
//! in by [`Sender::push`] and wake once by [`Sender::wake`]. The receiver drains in batches.
//!
//! How no item is slept over: before it sleeps, the receiver marks itself as sleeping and then
//! looks at the queue again; the sender puts its item in and then looks at the mark. Each has a
//! sequentially consistent fence between its two steps, so that at least one of them sees what
//! the other did.
//!
//! Works under any executor. The order of one sender's items is kept. A full queue gives the
//! item back: whether to wait, shed or fail is the sender's decision.

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use std::task::{Context, Poll};

use atomic_waker::AtomicWaker;
use crossbeam::queue::ArrayQueue;
use crossbeam::utils::CachePadded;

/// A queue of at most `limit` items; `limit` is not 0.
pub fn queue<T>(limit: usize) -> (Sender<T>, Receiver<T>) {
    let shared = Arc::new(Shared {
        items: ArrayQueue::new(limit),
        is_sleeping: CachePadded::new(AtomicBool::new(false)),
        is_closed: CachePadded::new(AtomicBool::new(false)),
        sender_count: AtomicUsize::new(1),
        waker: AtomicWaker::new(),
    });
    (Sender(shared.clone()), Receiver(shared))
}

struct Shared<T> {
    items: ArrayQueue<T>,
    /// The receiver waits, or is about to: its waker must be called.
    is_sleeping: CachePadded<AtomicBool>,
    /// The receiver is gone.
    is_closed: CachePadded<AtomicBool>,
    sender_count: AtomicUsize,
    waker: AtomicWaker,
}

impl<T> Shared<T> {
    fn wake(&self) {
        fence(Ordering::SeqCst);
        if self.is_sleeping.load(Ordering::Relaxed)
            && self.is_sleeping.swap(false, Ordering::Relaxed)
        {
            self.waker.wake();
        }
    }

    fn drop_items(&self) {
        while self.items.pop().is_some() {}
    }
}

/// Why an item was not taken; it comes back.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum SendError<T> {
    /// The queue holds as many items as it may.
    Full(T),
    /// The receiver is gone for good.
    Closed(T),
}

impl<T> SendError<T> {
    /// The item that was not sent.
    pub fn into_item(self) -> T {
        match self {
            SendError::Full(item) | SendError::Closed(item) => item,
        }
    }
}

impl<T> fmt::Debug for SendError<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            SendError::Full(_) => "Full",
            SendError::Closed(_) => "Closed",
        })
    }
}

impl<T> fmt::Display for SendError<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            SendError::Full(_) => "the queue is full",
            SendError::Closed(_) => "the queue's receiver is gone",
        })
    }
}

impl<T> std::error::Error for SendError<T> {}

/// The sending end. Clones send into the same queue; when the last is dropped, the receiver
/// gets what is left and then the end.
pub struct Sender<T>(Arc<Shared<T>>);

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Sender({} of {})", self.0.items.len(), self.0.items.capacity())
    }
}

impl<T> Sender<T> {
    /// Puts an item in and wakes the receiver if it sleeps.
    pub fn try_send(&self, item: T) -> Result<(), SendError<T>> {
        self.push(item)?;
        self.wake();
        Ok(())
    }

    /// Puts an item in without waking the receiver: [`Sender::wake`] must follow.
    pub fn push(&self, item: T) -> Result<(), SendError<T>> {
        if self.0.is_closed.load(Ordering::Relaxed) {
            return Err(SendError::Closed(item));
        }
        self.0.items.push(item).map_err(SendError::Full)
    }

    /// Wakes the receiver, if it sleeps, for what was pushed before.
    pub fn wake(&self) {
        self.0.wake();
        // The receiver may have gone after the look in `push`. Its items go as well, so that
        // whoever waits for an answer to one learns it by the dropped channel.
        if self.0.is_closed.load(Ordering::Relaxed) {
            self.0.drop_items();
        }
    }

    /// Items in the queue now.
    pub fn item_count(&self) -> usize {
        self.0.items.len()
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Sender<T> {
        self.0.sender_count.fetch_add(1, Ordering::Relaxed);
        Sender(self.0.clone())
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        if self.0.sender_count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.wake();
        }
    }
}

/// The receiving end. Dropping it drops the items.
pub struct Receiver<T>(Arc<Shared<T>>);

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Receiver({} of {})", self.0.items.len(), self.0.items.capacity())
    }
}

impl<T> Receiver<T> {
    /// The next item, if one is there.
    pub fn try_recv(&mut self) -> Option<T> {
        self.0.items.pop()
    }

    /// The next item; `None` when all senders are gone and nothing is left.
    pub async fn recv(&mut self) -> Option<T> {
        poll_fn(|context| self.poll_recv(context)).await
    }

    /// Waits for an item, then appends all that are there, at most `count_max`, to `items`.
    /// Returns how many; 0 when all senders are gone and nothing is left.
    pub async fn recv_many(&mut self, items: &mut Vec<T>, count_max: usize) -> usize {
        assert!(count_max > 0, "no items were asked for");
        let Some(first) = self.recv().await else { return 0 };
        items.push(first);
        1 + self.drain(items, count_max - 1)
    }

    /// Appends the items that are there, at most `count_max`, to `items`, and returns how many.
    pub fn drain(&mut self, items: &mut Vec<T>, count_max: usize) -> usize {
        let mut count = 0;
        while count < count_max {
            let Some(item) = self.try_recv() else { break };
            items.push(item);
            count += 1;
        }
        count
    }

    /// [`Receiver::recv`] as a poll.
    pub fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<Option<T>> {
        if let Some(item) = self.try_recv() {
            return Poll::Ready(Some(item));
        }
        self.0.waker.register(context.waker());
        self.0.is_sleeping.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        // The count is read before the last look at the queue: a sender that is gone put its
        // items in before it went.
        let is_over = self.0.sender_count.load(Ordering::Acquire) == 0;
        let item = self.try_recv();
        if item.is_none() && !is_over {
            return Poll::Pending;
        }
        self.0.is_sleeping.store(false, Ordering::Relaxed);
        Poll::Ready(item)
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.0.is_closed.store(true, Ordering::Relaxed);
        // Pairs with the fence in `wake`: of a sender's push and this, one sees the other.
        fence(Ordering::SeqCst);
        self.0.drop_items();
    }
}
