//! What a measurement of the disk means. Pure.

use raft::DiskSpace;

use super::Space;

/// When there is too little space, and how much is held in reserve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marks {
    /// Below this many free bytes no mutations are taken …
    pub soft_bytes: u64,
    /// … or below this share of the disk, whichever is more.
    pub soft_percent: u64,
    /// Below this many the reserve is given up.
    pub hard_bytes: u64,
    /// How large the reserve is.
    pub ballast_bytes: u64,
}

/// What is to be done with the reserve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reserve {
    /// Nothing.
    Keep,
    /// Give its space back.
    Release,
    /// Make it whole.
    Make,
}

impl Marks {
    fn soft(&self, total_bytes: u64) -> u64 {
        self.soft_bytes
            .max((total_bytes / 100).saturating_mul(self.soft_percent))
    }
}

/// Judges a measurement. What the reserve lacks is not free: otherwise giving it up would look like space that came
/// back. Too little stays too little until a quarter more than the mark is free.
pub fn judge(marks: &Marks, space: Space, reserved_bytes: u64, was_short: bool) -> (DiskSpace, Reserve) {
    let mark = marks.soft(space.total_bytes);
    let missing = marks.ballast_bytes.saturating_sub(reserved_bytes);
    let free = space.free_bytes.saturating_sub(missing);
    let enough = if was_short { mark.saturating_add(mark / 4) } else { mark };
    let short = free < enough;
    let reserve = if reserved_bytes > 0 && space.free_bytes < marks.hard_bytes {
        Reserve::Release
    } else if reserved_bytes != marks.ballast_bytes && !short {
        Reserve::Make
    } else {
        Reserve::Keep
    };
    let space = DiskSpace {
        free_bytes: free,
        mark_bytes: mark,
        short,
    };
    (space, reserve)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARKS: Marks = Marks {
        soft_bytes: 400,
        soft_percent: 1,
        hard_bytes: 100,
        ballast_bytes: 50,
    };

    fn at(free_bytes: u64, reserved: u64, was_short: bool) -> (bool, Reserve) {
        let space = Space {
            free_bytes,
            total_bytes: 10_000,
        };
        let (found, reserve) = judge(&MARKS, space, reserved, was_short);
        (found.short, reserve)
    }

    #[test]
    fn a_disk_that_fills_and_empties() {
        assert_eq!(at(5_000, 0, false), (false, Reserve::Make));
        assert_eq!(at(400, 50, false), (false, Reserve::Keep));
        assert_eq!(at(399, 50, false), (true, Reserve::Keep));
        assert_eq!(at(100, 50, true), (true, Reserve::Keep));
        assert_eq!(at(99, 50, true), (true, Reserve::Release));
        // What was given up is no space that came back.
        assert_eq!(at(149, 0, true), (true, Reserve::Keep));
        assert_eq!(at(449, 50, true), (true, Reserve::Keep));
        assert_eq!(at(549, 0, true), (true, Reserve::Keep));
        assert_eq!(at(550, 0, true), (false, Reserve::Make));
        assert_eq!(at(500, 50, true), (false, Reserve::Keep));
    }

    #[test]
    fn the_larger_mark_counts_and_a_ballast_of_another_size_is_made_anew() {
        let large = Space {
            free_bytes: 900,
            total_bytes: 100_000,
        };
        assert!(
            judge(&MARKS, large, 50, false).0.short,
            "one percent of it is more than 400"
        );
        assert_eq!(at(5_000, 70, false), (false, Reserve::Make));
        let none = Marks {
            ballast_bytes: 0,
            ..MARKS
        };
        let space = Space {
            free_bytes: 5_000,
            total_bytes: 10_000,
        };
        assert_eq!(judge(&none, space, 0, false).1, Reserve::Keep);
    }
}
