//! Which launcher a sandbox gets: the common one of its profile, or one that only some share.
//!
//! Whoever brings a launcher down takes along all that it has made, and from outside they look alike. So each of them moves
//! on to a cell below the one in which it was, drawn from sixteen, with a launcher of its own. The guilty one brings down the
//! next launcher too, but a sixteenth of its neighbours with it, and so on: after four losses one in 65,536 shares its fate.
//! However many agents there are, one guilty one costs sixteen launchers a loss.

/// One of sixteen.
const DRAW_BITS: u32 = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cell(u64);

impl Cell {
    /// Where everybody is of whom nothing is known.
    pub const COMMON: Cell = Cell(1);

    /// One of the sixteen below this one. What lies deeper than there are bits stays where it is.
    #[must_use]
    pub fn split(self, draw: u64) -> Self {
        match self.0.leading_zeros() {
            0..DRAW_BITS => self,
            _ => Self((self.0 << DRAW_BITS) | (draw % (1 << DRAW_BITS))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cell_is_that_of_another_way() {
        let mut cells = std::collections::HashSet::from([Cell::COMMON]);
        for first in 0..16 {
            let below = Cell::COMMON.split(first);
            assert_eq!(below, Cell::COMMON.split(first + 16));
            assert!(cells.insert(below));
            for second in 0..16 {
                assert!(cells.insert(below.split(second)));
            }
        }
    }

    #[test]
    fn a_way_of_any_length_ends() {
        let mut cell = Cell::COMMON;
        for _ in 0..100 {
            cell = cell.split(15);
        }
        assert_eq!(cell, cell.split(3));
    }
}
