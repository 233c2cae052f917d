//! Seeded defects: places where the code can be made wrong on purpose, so that it can be shown that the tests would notice.
//!
//! Without the feature `defects`, which only the proof machine switches on, [`defect`] is the constant `false` and the places are
//! compiled away. `docs/defects.md` lists the defects and what catches them.

/// Whether the defect of this name is switched on in this thread.
#[cfg(not(feature = "defects"))]
#[inline(always)]
pub const fn defect(_name: &'static str) -> bool {
    false
}

#[cfg(feature = "defects")]
pub use on::{defect, switch_defect};

#[cfg(feature = "defects")]
mod on {
    use std::cell::{Cell, RefCell};
    use std::collections::BTreeSet;

    thread_local! {
        static ON: Cell<&'static str> = const { Cell::new("") };
        static WATCHED: Cell<bool> = const { Cell::new(false) };
        static REACHED: RefCell<BTreeSet<&'static str>> = const { RefCell::new(BTreeSet::new()) };
    }

    /// Whether the defect of this name is switched on in this thread.
    pub fn defect(name: &'static str) -> bool {
        if !WATCHED.get() {
            return false;
        }
        REACHED.with_borrow_mut(|reached| reached.insert(name));
        ON.get() == name
    }

    /// Switches on one defect in this thread, or none (`""`). Gives the names of all places that were
    /// reached since the last time; before the first time none are noted.
    pub fn switch_defect(name: &'static str) -> BTreeSet<&'static str> {
        WATCHED.set(true);
        ON.set(name);
        REACHED.take()
    }
}
