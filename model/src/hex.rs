//! Bytes as hexadecimal digits.

/// So many bytes are written at a time.
const RUN_BYTES: usize = 32;

/// Appends two lower-case digits per byte.
pub(crate) fn push_hex(out: &mut String, bytes: &[u8]) {
    out.reserve(2 * bytes.len());
    for run in bytes.chunks(RUN_BYTES) {
        let mut digits = [0; 2 * RUN_BYTES];
        let pairs = digits.as_chunks_mut::<2>().0;
        for (pair, byte) in pairs.iter_mut().zip(run) {
            *pair = [digit(byte >> 4), digit(byte & 0xf)];
        }
        out.push_str(str::from_utf8(&digits[..2 * run.len()]).expect("digits are ASCII"));
    }
}

/// Of a number below sixteen.
fn digit(nibble: u8) -> u8 {
    nibble + if nibble < 10 { b'0' } else { b'a' - 10 }
}

/// The bytes of an even number of hexadecimal digits, of either case.
pub(crate) fn parse_hex(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let bytes = pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect();
    if rest.is_empty() { bytes } else { None }
}
