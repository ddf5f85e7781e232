//! The head of a WAL file: which member of which cluster a data directory belongs to. Pure; no byte is trusted.
//!
//! A frame is a length (u64 LE; the top byte holds the padding) and a protobuf `Record {type, crc, data}`. The first is a
//! checksum, the next the metadata: `Metadata {NodeID, ClusterID}` (etcd server/storage/wal/wal.go).

/// Who a WAL belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalHead {
    /// etcd's id of the member.
    pub node_id: u64,
    /// etcd's id of the cluster.
    pub cluster_id: u64,
}

/// Bytes from the beginning of a file that surely hold its head.
pub const WAL_HEAD_BYTES: usize = 4096;
const METADATA: u64 = 1;
/// Checksum and metadata are the first two; a file that has neither there is none of etcd's.
const MOST_RECORDS: usize = 4;

/// Reads the head from the beginning of a WAL file; nothing where it is not there.
pub fn parse_wal_head(mut bytes: &[u8]) -> Option<WalHead> {
    for _ in 0..MOST_RECORDS {
        let length = u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?);
        let size = usize::try_from(length & 0x00ff_ffff_ffff_ffff).ok()?;
        let padding = if length >> 63 == 1 { usize::try_from((length >> 56) & 7).ok()? } else { 0 };
        let record = bytes.get(8..8_usize.checked_add(size)?)?;
        let (mut kind, mut data) = (0, &[][..]);
        for (field, value) in Fields(record) {
            match (field, value) {
                (1, Value::Number(number)) => kind = number,
                (3, Value::Bytes(found)) => data = found,
                (_, Value::Number(_) | Value::Bytes(_)) => {}
            }
        }
        if kind == METADATA {
            let number = |wanted| {
                Fields(data).find_map(|(field, value)| match value {
                    Value::Number(number) if field == wanted => Some(number),
                    Value::Number(_) | Value::Bytes(_) => None,
                })
            };
            return Some(WalHead { node_id: number(1)?, cluster_id: number(2)? });
        }
        bytes = bytes.get(8_usize.checked_add(size)?.checked_add(padding)?..)?;
    }
    None
}

/// Value of a protobuf field, as far as these records have them.
enum Value<'b> {
    Number(u64),
    Bytes(&'b [u8]),
}

/// The fields of a protobuf message, up to the first that makes no sense.
struct Fields<'b>(&'b [u8]);

impl<'b> Iterator for Fields<'b> {
    type Item = (u64, Value<'b>);

    fn next(&mut self) -> Option<Self::Item> {
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Value::Number(self.varint()?),
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                let (bytes, rest) = self.0.split_at_checked(length)?;
                self.0 = rest;
                Value::Bytes(bytes)
            }
            _ => return None,
        };
        Some((key >> 3, value))
    }
}

impl Fields<'_> {
    fn varint(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn varint(mut number: u64) -> Vec<u8> {
        let mut bytes = vec![];
        while number >= 0x80 {
            bytes.push((number & 0x7f) as u8 | 0x80);
            number >>= 7;
        }
        bytes.push(number as u8);
        bytes
    }

    fn frame(record: &[u8]) -> Vec<u8> {
        let padding = (8 - record.len() % 8) % 8;
        let length = record.len() as u64 | if padding > 0 { (0x80 | padding as u64) << 56 } else { 0 };
        [&length.to_le_bytes()[..], record, &vec![0; padding]].concat()
    }

    fn wal(node: u64, cluster: u64) -> Vec<u8> {
        let metadata = [vec![0x08], varint(node), vec![0x10], varint(cluster)].concat();
        let record = [vec![0x08, 1, 0x10], varint(99), vec![0x1a, metadata.len() as u8], metadata].concat();
        [frame(&[0x08, 4, 0x10, 0]), frame(&record), vec![0; 64]].concat()
    }

    #[test]
    fn the_head_tells_member_and_cluster() {
        let expected = WalHead { node_id: u64::MAX - 3, cluster_id: 0xcdf8_181e_1482_1c70 };
        assert_eq!(parse_wal_head(&wal(expected.node_id, expected.cluster_id)), Some(expected));
    }

    #[test]
    fn a_file_that_is_cut_off_or_something_else_has_no_head() {
        let whole = wal(7, 9);
        let last = whole.len() - 64 - 8;
        for length in 0..last {
            assert_eq!(parse_wal_head(&whole[..length]), None, "{length}");
        }
        for other in [vec![0; 4096], vec![0xff; 4096], b"not a write-ahead log at all, but text".to_vec()] {
            assert_eq!(parse_wal_head(&other), None);
        }
    }
}
