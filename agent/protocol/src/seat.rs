//! Seats: the members of an order by number, and sets of them. Pure.

use std::fmt;

/// Position of a member in the order's list of members.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seat(pub u8);

impl fmt::Display for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// Most members an order may have; `Terms::of` refuses more.
pub const MOST_MEMBERS: usize = 9;

/// A set of seats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Seats(u16);

impl Seats {
    /// Whether a seat is in it.
    pub const fn contains(self, seat: Seat) -> bool {
        match 1_u16.checked_shl(seat.0 as u32) {
            Some(bit) => self.0 & bit != 0,
            None => false,
        }
    }

    /// Whether none is in it.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those in it, lowest first.
    pub fn iter(self) -> impl Iterator<Item = Seat> {
        (0..u16::BITS as u8).map(Seat).filter(move |seat| self.contains(*seat))
    }
}

impl FromIterator<Seat> for Seats {
    fn from_iter<I: IntoIterator<Item = Seat>>(seats: I) -> Self {
        Self(seats.into_iter().fold(0, |set, seat| set | 1_u16.checked_shl(u32::from(seat.0)).unwrap_or(0)))
    }
}

impl fmt::Display for Seats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut between = "";
        for seat in self.iter() {
            write!(f, "{between}{seat}")?;
            between = ", ";
        }
        Ok(())
    }
}
