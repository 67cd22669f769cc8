//! The stage's hold on a member: it ends it, wakes it, and has it asked again.

use crate::health::Cancel;
use crate::sys::{Deadline, Result};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// The stage's hold on a member.
#[derive(Default)]
pub struct Handle {
    over: AtomicBool,
    doubted: AtomicBool,
    /// Whether its bell has rung since it last looked.
    bell: Mutex<bool>,
    rung: Condvar,
    /// Ends what it asks just now.
    cancel: Mutex<Option<Arc<Cancel>>>,
}

impl Handle {
    /// The stage is over: the member does nothing more.
    pub fn end(&self) {
        self.over.store(true, Ordering::SeqCst);
        self.wake();
    }

    /// It was found unhealthy after it said that it was healthy: it is asked again.
    pub fn doubt(&self) {
        self.doubted.store(true, Ordering::SeqCst);
        self.wake();
    }

    /// Something has happened to it: if it rests, it looks.
    pub fn ring(&self) {
        *self.bell.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.rung.notify_all();
    }

    /// It is about to be asked: a doubt that came before is met by that.
    pub(super) fn settle(&self) {
        self.doubted.store(false, Ordering::SeqCst);
    }

    fn wake(&self) {
        if let Some(cancel) = &*self.cancel.lock().unwrap_or_else(PoisonError::into_inner) {
            cancel.set();
        }
        self.ring();
    }

    /// Rests until the bell rings, or until then.
    pub(super) fn rest(&self, until: Deadline) {
        let bell = self.bell.lock().unwrap_or_else(PoisonError::into_inner);
        let rested = self.rung.wait_timeout_while(bell, until.left(), |rung| !*rung);
        *rested.unwrap_or_else(PoisonError::into_inner).0 = false;
    }

    pub(super) fn is_doubted(&self) -> bool {
        self.doubted.load(Ordering::SeqCst)
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    /// A flag that is not set, unless the stage is over or the member in doubt.
    pub(super) fn fresh(&self) -> Result<Arc<Cancel>> {
        let fresh = Arc::new(Cancel::new()?);
        *self.cancel.lock().unwrap_or_else(PoisonError::into_inner) = Some(fresh.clone());
        // Looked at after it is there: what comes later sets it.
        if self.is_over() || self.doubted.load(Ordering::SeqCst) {
            fresh.set();
        }
        Ok(fresh)
    }
}
