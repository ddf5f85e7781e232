//! Lines of etcd, as far as a restore minds them.

use std::fmt;

/// A minor line, such as 3.6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Line {
    major: u32,
    minor: u32,
}

impl Line {
    /// The line of a version such as `3.6.1`; `None` for what is no version.
    pub(super) fn of(version: &str) -> Option<Self> {
        let mut parts = version.trim_start_matches('v').split(['.', '-']);
        let mut number = || parts.next()?.parse::<u32>().ok();
        Some(Self { major: number()?, minor: number()? })
    }

    /// Whether servers of this line read data of another: of their own, and of the one before.
    pub(super) fn reads(self, data: Self) -> bool {
        self.major == data.major && (self.minor == data.minor || self.minor.checked_sub(1) == Some(data.minor))
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_read_data_of_their_own_line_and_of_the_one_before() {
        let line = |text: &str| Line::of(text).unwrap();
        assert!(line("3.6.5").reads(line("3.6.0")) && line("3.6.5").reads(line("3.5.16")));
        assert!(!line("3.5.16").reads(line("3.6.0")), "never a newer one");
        assert!(!line("3.7.0").reads(line("3.5.16")));
        assert!(!line("4.6.0").reads(line("3.6.0")));
        assert_eq!((Line::of("not decided"), Line::of("3"), Line::of("")), (None, None, None));
        assert_eq!(line("v3.6.1-k3s1").to_string(), "3.6");
    }
}
