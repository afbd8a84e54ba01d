//! Zigzag varints as records use them (the unsigned ones of flexible messages belong to `wire`).

/// Longest encodings: 32 bits need five bytes, 64 bits ten.
const VARINT_LEN_MAX: usize = 5;
const VARLONG_LEN_MAX: usize = 10;

/// Reads an int; `None` if it is cut off or does not fit 32 bits.
#[inline]
pub(super) fn read_varint(data: &mut &[u8]) -> Option<i32> {
    if let Some((&first, rest)) = data.split_first()
        && first < 0x80
    {
        *data = rest;
        return Some(((first >> 1) as i32) ^ -((first & 1) as i32));
    }
    let raw = read_unsigned(data, VARINT_LEN_MAX)?;
    let raw = u32::try_from(raw).ok()?;
    Some(((raw >> 1) as i32) ^ -((raw & 1) as i32))
}

/// Reads a long; `None` if it is cut off or longer than ten bytes.
#[inline]
pub(super) fn read_varlong(data: &mut &[u8]) -> Option<i64> {
    let raw = read_unsigned(data, VARLONG_LEN_MAX)?;
    Some(((raw >> 1) as i64) ^ -((raw & 1) as i64))
}

#[inline]
fn read_unsigned(data: &mut &[u8], len_max: usize) -> Option<u64> {
    let mut value = 0u64;
    for (index, &byte) in data.iter().take(len_max).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            *data = &data[index + 1..];
            return Some(value);
        }
    }
    None
}

pub(super) fn write_varint(out: &mut Vec<u8>, value: i32) {
    write_unsigned(out, u64::from(((value << 1) ^ (value >> 31)) as u32));
}

pub(super) fn write_varlong(out: &mut Vec<u8>, value: i64) {
    write_unsigned(out, ((value << 1) ^ (value >> 63)) as u64);
}

fn write_unsigned(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(super) const fn varint_len(value: i32) -> usize {
    unsigned_len(((value << 1) ^ (value >> 31)) as u32 as u64)
}

pub(super) const fn varlong_len(value: i64) -> usize {
    unsigned_len(((value << 1) ^ (value >> 63)) as u64)
}

const fn unsigned_len(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn ints_come_back(value: i32) {
            let mut out = Vec::new();
            write_varint(&mut out, value);
            prop_assert_eq!(out.len(), varint_len(value));
            let mut rest = &out[..];
            prop_assert_eq!(read_varint(&mut rest), Some(value));
            prop_assert!(rest.is_empty());
            prop_assert_eq!(read_varint(&mut &out[..out.len() - 1]), None);
        }

        #[test]
        fn longs_come_back(value: i64) {
            let mut out = Vec::new();
            write_varlong(&mut out, value);
            prop_assert_eq!(out.len(), varlong_len(value));
            prop_assert_eq!(read_varlong(&mut &out[..]), Some(value));
        }
    }

    #[test]
    fn an_int_that_is_too_long_is_refused() {
        assert_eq!(read_varint(&mut &[0xff, 0xff, 0xff, 0xff, 0x7f][..]), None);
        assert_eq!(read_varint(&mut &[0xff; 12][..]), None);
        assert_eq!(read_varlong(&mut &[0xff; 12][..]), None);
        assert_eq!(read_varint(&mut &[0xff, 0xff, 0xff, 0xff, 0x0f][..]), Some(i32::MIN));
    }
}
