//! An HTTP endpoint that takes events, and does it badly: one call in ten, until it is told to behave.
//!
//! An event is *taken* when the endpoint has noted it, whatever it answers: it may fail after that, so
//! that the feed has to send again what is here already. Each path is a destination of its own.

use super::history::{Entry, Place};
use crate::random::Random;
use serde_json::Value;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How long a feed waits for an answer, in milliseconds.
pub(super) const TIMEOUT_MS: u64 = 1_500;
/// How long the endpoint hangs, when it does.
const HANG_TIME: Duration = Duration::from_millis(TIMEOUT_MS + 500);
/// An answer that took longer may not have been waited for.
const PROMPT_TIME_MAX: Duration = Duration::from_millis(TIMEOUT_MS / 2);
const MISBEHAVES_ONE_IN: u64 = 10;

/// The endpoint. Its threads end with the program.
pub(super) struct Receiver {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    began: Instant,
    behaves: AtomicBool,
    state: Mutex<State>,
}

struct State {
    entries: Vec<Entry>,
    random: Random,
    refusals: usize,
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    /// It is taken, and acknowledged.
    Good,
    /// It is answered 503, and not taken.
    Refuse,
    /// It is answered 429 and asked to wait a second.
    Postpone,
    /// It is taken, and answered 500.
    TakeAndFail,
    /// It is taken, and not answered.
    TakeAndHang,
    /// It is not taken, and not answered.
    Hang,
    /// It is taken, and the connection ends.
    TakeAndBreakOff,
}

impl Manner {
    const BAD: [Manner; 6] = [
        Manner::Refuse,
        Manner::Postpone,
        Manner::TakeAndFail,
        Manner::TakeAndHang,
        Manner::Hang,
        Manner::TakeAndBreakOff,
    ];

    fn takes(self) -> bool {
        !matches!(self, Manner::Refuse | Manner::Postpone | Manner::Hang)
    }
}

impl Receiver {
    pub(super) fn start(began: Instant, random: Random) -> io::Result<Receiver> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        let state = State { entries: Vec::new(), random, refusals: 0 };
        let (behaves, state) = (AtomicBool::new(false), Mutex::new(state));
        let shared = Arc::new(Shared { began, behaves, state });
        let of_threads = shared.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = of_threads.clone();
                // A connection that breaks is the feed's to mend.
                thread::spawn(move || drop(receive(&stream, &shared)));
            }
        });
        Ok(Receiver { address, shared })
    }

    /// Where a feed of that name is to send its events.
    pub(super) fn url(&self, feed: &str) -> String {
        format!("http://{}/{feed}", self.address)
    }

    /// Acknowledges everything from here on.
    pub(super) fn behave(&self) {
        self.shared.behaves.store(true, Ordering::SeqCst);
    }

    /// What was taken so far.
    pub(super) fn entries(&self) -> Vec<Entry> {
        self.shared.state().entries.clone()
    }

    /// How many calls were not acknowledged.
    pub(super) fn refusals(&self) -> usize {
        self.shared.state().refusals
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn manner(&self) -> Manner {
        if self.behaves.load(Ordering::SeqCst) {
            return Manner::Good;
        }
        let random = &mut self.state().random;
        match random.below(MISBEHAVES_ONE_IN) {
            0 => Manner::BAD[random.below(Manner::BAD.len() as u64) as usize],
            _ => Manner::Good,
        }
    }

    /// Notes what a call carries; returns where, for [`Shared::withdraw`].
    fn take(&self, feed: &str, body: &[u8], is_acknowledged: bool) -> io::Result<Vec<usize>> {
        let events: Vec<Value> = serde_json::from_slice(body).map_err(io::Error::other)?;
        let nanos = u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let mut state = self.state();
        let first = state.entries.len();
        for event in &events {
            let place = Place { feed: feed.to_owned(), partition: 0, offset: None };
            state.entries.push(entry(event, nanos, place, is_acknowledged)?);
        }
        Ok((first..state.entries.len()).collect())
    }

    /// The feed may not have heard that these arrived.
    fn withdraw(&self, places: &[usize]) {
        let mut state = self.state();
        state.refusals += 1;
        for at in places {
            if let Some(Entry::Told { is_acknowledged, .. }) = state.entries.get_mut(*at) {
                *is_acknowledged = false;
            }
        }
    }
}

/// An event or a mark, as a feed sends it.
pub(super) fn entry(
    event: &Value,
    nanos: u64,
    place: Place,
    is_acknowledged: bool,
) -> io::Result<Entry> {
    let whole = |value: &Value| {
        value.as_i64().ok_or_else(|| io::Error::other(format!("this is no event: {event}")))
    };
    let sequence = whole(&event["sequence"])? as u64;
    if event.get("resolved").is_some() {
        return Ok(Entry::Mark { nanos, place, sequence });
    }
    let (key, value) = (whole(&event["key"]["k"])?, whole(&event["new_row"]["v"])?);
    Ok(Entry::Told { nanos, place, key, value, sequence, is_acknowledged })
}

/// Takes the calls of one connection.
fn receive(mut stream: &TcpStream, shared: &Shared) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    while let Some((feed, body)) = request(&mut reader)? {
        let began = Instant::now();
        let manner = shared.manner();
        let mut taken = Vec::new();
        if manner.takes() {
            taken = shared.take(&feed, &body, manner == Manner::Good)?;
        }
        let answer = match manner {
            Manner::Good => "200 OK\r\n",
            Manner::Refuse => "503 Service Unavailable\r\n",
            Manner::Postpone => "429 Too Many Requests\r\nretry-after: 1\r\n",
            Manner::TakeAndFail => "500 Internal Server Error\r\n",
            Manner::Hang | Manner::TakeAndHang => {
                thread::sleep(HANG_TIME);
                ""
            }
            Manner::TakeAndBreakOff => "",
        };
        let answered = match answer {
            "" => Err(io::Error::other("this call ends here")),
            head => write!(stream, "HTTP/1.1 {head}content-length: 0\r\n\r\n"),
        };
        if manner != Manner::Good || answered.is_err() || began.elapsed() > PROMPT_TIME_MAX {
            shared.withdraw(&taken);
        }
        answered?;
    }
    Ok(())
}

/// The path without its slash, and the body; nothing at the connection's end.
fn request(reader: &mut impl BufRead) -> io::Result<Option<(String, Vec<u8>)>> {
    let (mut feed, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let line = line.trim_end();
        if let Some(rest) = line.strip_prefix("POST /") {
            rest.split(' ').next().unwrap_or_default().clone_into(&mut feed);
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().map_err(io::Error::other)?;
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(Some((feed, body)))
}
