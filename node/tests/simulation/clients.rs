//! The clients of a simulation: they begin with a step of it, and are run to their end.

use std::cell::RefCell;
use std::panic::resume_unwind;
use std::pin::Pin;
use std::rc::Rc;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use turmoil::Sim;

/// The host of clients that share one.
pub(crate) const SHARED_HOST: &str = "clients";

/// What a client came to, once it has ended.
pub(crate) type Outcome<T> = Rc<RefCell<Option<T>>>;

/// A client's life.
type Life = Pin<Box<dyn Future<Output = ()>>>;

/// The clients that a simulation was given so far.
#[derive(Debug)]
pub(crate) struct Clients {
    count: u64,
    /// Where the next one begins to live, if all of them share a host.
    shared: Option<mpsc::UnboundedSender<Life>>,
}

impl Clients {
    /// Clients with a host each, so that the network between each of them and a node can be broken.
    pub(crate) fn apart() -> Clients {
        Clients { count: 0, shared: None }
    }

    /// Clients with one host, which takes a simulation less time than many: each host is a runtime
    /// that is run in every tick, and has a link to every other.
    pub(crate) fn together(sim: &mut Sim<'static>) -> Clients {
        let (shared, newcomers) = mpsc::unbounded_channel();
        sim.client(SHARED_HOST, live_together(newcomers));
        Clients { count: 0, shared: Some(shared) }
    }

    /// The host of the client that was started last, if it has one of its own.
    pub(crate) fn newest_host(&self) -> String {
        format!("client-{}", self.count)
    }

    fn begin(&mut self, sim: &mut Sim<'static>, life: Life) {
        self.count += 1;
        match &self.shared {
            Some(shared) => shared.send(life).expect("their host outlives them"),
            None => sim.client(self.newest_host(), async {
                life.await;
                Ok(())
            }),
        }
    }
}

/// Lets clients live side by side; fails as soon as one of them does.
async fn live_together(mut newcomers: mpsc::UnboundedReceiver<Life>) -> turmoil::Result {
    let mut living = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            life = newcomers.recv() => {
                let Some(life) = life else { return Ok(()) };
                living.spawn_local(life);
            }
            Some(ended) = living.join_next() => {
                if let Err(error) = ended {
                    resume_unwind(error.into_panic());
                }
            }
        }
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
        let life = async move {
            let value = client.await;
            *result.borrow_mut() = Some(value);
        };
        clients.begin(sim, Box::pin(life));
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
