//! The thread between the desk and the store: takes what is to be sent, sends it, brings back what was said. Decides
//! nothing.

use super::client::{Lost, RedisClient};
use super::desk::{Batch, Desk, Heard};
use super::origins::Registered;
use srs_proxy_core::time::Time;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

/// Jobs whose replies are heard at once: for some tens of microseconds, in which nobody else can ask.
const AT_ONCE: usize = 64;

/// The time of whoever asks.
pub type Clock = Box<dyn Fn() -> Time + Send>;

/// A desk that several threads use.
pub(super) struct SharedDesk {
    desk: Mutex<Desk>,
    /// Rung when there is something to send, or when it is over.
    bell: Condvar,
}

impl SharedDesk {
    pub(super) fn new(desk: Desk) -> Self {
        Self { desk: Mutex::new(desk), bell: Condvar::new() }
    }

    /// Does something at the desk, then delivers what was answered and has sent what is urgent. Every change is whole
    /// when the lock is let go, so that a panic elsewhere spoils nothing.
    pub(super) fn at<T>(&self, now: Time, act: impl FnOnce(&mut Desk) -> T) -> T {
        let mut desk = self.lock();
        let done = act(&mut desk);
        let late = desk.late();
        let is_urgent = desk.next(now) <= now;
        drop(desk);
        if is_urgent {
            self.bell.notify_one();
        }
        for answer in late {
            answer.deliver();
        }
        done
    }

    /// Nobody asks any more.
    pub(super) fn close(&self) {
        self.lock().close();
        self.bell.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there is something to send. `None`: it is over.
    fn batch(&self, clock: &Clock) -> Option<Batch> {
        let mut desk = self.lock();
        loop {
            if desk.is_closed() {
                return None;
            }
            let now = clock();
            let batch = desk.batch(now);
            if !batch.commands.is_empty() {
                return Some(batch);
            }
            let pause = desk.next(now).since(now);
            desk = self
                .bell
                .wait_timeout(desk, pause)
                .map_or_else(|broken| broken.into_inner().0, |woken| woken.0);
        }
    }
}

/// Serves the desk until it is closed.
pub(super) fn serve(desk: Arc<SharedDesk>, mut client: Box<dyn RedisClient>, clock: Clock) -> io::Result<()> {
    thread::Builder::new().name("redis".into()).spawn(move || {
        while let Some(batch) = desk.batch(&clock) {
            let said = send(&mut *client, &batch);
            let now = clock();
            match said {
                Err(why) => desk.at(now, |desk| desk.hear(now, batch, Err(why))),
                Ok(heard) => {
                    for (piece, heard) in batch.pieces(AT_ONCE, heard) {
                        desk.at(now, |desk| desk.hear(now, piece, Ok(heard)));
                    }
                }
            }
        }
    })?;
    Ok(())
}

/// Sends what is to be sent now, before anybody asks anything.
pub(super) fn exchange(desk: &mut Desk, client: &mut dyn RedisClient, clock: &Clock) -> Result<(), Lost> {
    let batch = desk.opening();
    let heard = send(client, &batch)?;
    // A store that does not even do this would do nothing else, and nobody would see it. One that is full may have room
    // again.
    if let Some(why) = heard.iter().filter_map(Heard::failure).find(|why| !why.starts_with("OOM")) {
        return Err(Lost(format!("it refuses a command: {why}")));
    }
    desk.hear(clock(), batch, Ok(heard));
    Ok(())
}

/// Sends a batch and reads the replies, while the desk is free.
pub(super) fn send(client: &mut dyn RedisClient, batch: &Batch) -> Result<Vec<Heard>, Lost> {
    let replies = client.run(&batch.commands)?;
    if replies.len() != batch.commands.len() {
        return Err(Lost("not as many replies as commands".into()));
    }
    Ok(replies.into_iter().map(|reply| reply.map_census(Registered::read)).collect())
}
