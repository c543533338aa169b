//! The clients of a simulation: they begin with a step of it, and are run to their end.

use std::cell::RefCell;
use std::rc::Rc;
use turmoil::Sim;

/// What a client came to, once it has ended.
pub(crate) type Outcome<T> = Rc<RefCell<Option<T>>>;

/// The clients that a simulation was given so far.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    count: u64,
}

impl Clients {
    /// The host of the client that was started last.
    pub(crate) fn newest_host(&self) -> String {
        format!("client-{}", self.count)
    }
}

/// A simulation that clients live in.
pub(crate) trait HasClients {
    /// What they run in.
    fn parts(&mut self) -> (&mut Sim<'static>, &mut Clients);

    /// Runs everything for one tick. Panics when a node or a client failed.
    fn step(&mut self);

    /// The same, so many times.
    fn steps(&mut self, count: u64) {
        (0..count).for_each(|_| self.step());
    }

    /// Lets a client begin with the next step; its result is there when it is done.
    fn start<T: 'static>(&mut self, client: impl Future<Output = T> + 'static) -> Outcome<T> {
        let slot = Outcome::default();
        let result = slot.clone();
        let (sim, clients) = self.parts();
        clients.count += 1;
        sim.client(clients.newest_host(), async move {
            let value = client.await;
            *result.borrow_mut() = Some(value);
            Ok(())
        });
        slot
    }

    /// Runs until a client has ended.
    fn finish<T>(&mut self, client: &Outcome<T>) -> T {
        loop {
            if let Some(value) = client.borrow_mut().take() {
                return value;
            }
            self.step();
        }
    }

    /// Runs a client to its end.
    fn run<T: 'static>(&mut self, client: impl Future<Output = T> + 'static) -> T {
        let started = self.start(client);
        self.finish(&started)
    }
}
