//! Connections that make room for others on their listener.

use std::sync::atomic::Ordering;
use std::task::Waker;

use super::{Activity, Phase, QUIET, Room};
use crate::transport::displacement::Displacement;

impl Activity {
    /// The task of this waker closes the connection when it is asked for room.
    pub fn may_make_room(&self, owner: &Waker) {
        *self.0.owner.lock() = Some(owner.clone());
    }

    /// Whether it may be asked for room, and was not.
    pub fn can_make_room(&self) -> bool {
        !self.is_asked_for_room() && !self.carries() && self.0.owner.lock().is_some()
    }

    /// Asks it to make room for another connection, unless it is used again first.
    pub fn ask_for_room(&self) {
        self.ask(Room::IfUnused);
    }

    /// Asks it to make room for another connection even while bytes pass, if its client has closed its sending side.
    pub fn ask_for_room_in_use(&self) {
        self.ask(Room::InUse);
    }

    /// Whether it has to end at once.
    pub(in crate::transport) fn displacement(&self) -> &Displacement {
        &self.0.displacement
    }

    pub(super) fn ask(&self, room: Room) {
        self.set_room(room);
        if let Some(owner) = &*self.0.owner.lock() {
            owner.wake_by_ref();
        }
    }

    /// Whether it was asked for room.
    pub fn is_asked_for_room(&self) -> bool {
        self.0.room.load(Ordering::Relaxed) != Room::NotAsked as u8
    }

    /// Whether an exchange runs whose client has closed its sending side, and no byte has passed for a while: most such
    /// clients have left.
    pub fn is_likely_left(&self) -> bool {
        self.has_ended() && self.has_exchange() && self.lasted() >= QUIET
    }

    /// Whether it makes room now: it was asked to, and it is still unused. If it is used again, it is not asked any more.
    pub fn makes_room(&self) -> bool {
        if !self.is_asked_for_room() {
            return false;
        }
        if self.phase() == Phase::Idle || self.is_shed() {
            return true;
        }
        let is_forced = self.0.room.load(Ordering::Relaxed) == Room::InUse as u8;
        if !self.has_ended() || is_forced || self.is_likely_left() {
            return self.has_ended();
        }
        self.set_room(Room::NotAsked);
        false
    }

    pub(super) fn set_room(&self, room: Room) {
        self.0.room.store(room as u8, Ordering::Relaxed);
    }
}
