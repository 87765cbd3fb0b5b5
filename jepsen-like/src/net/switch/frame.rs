//! What a switch has to know of an Ethernet frame, and to change in it.

const HEADER: usize = 14;
const ARP: [u8; 2] = [0x08, 0x06];
const IPV4: [u8; 2] = [0x08, 0x00];
const TCP: u8 = 6;
const UDP: u8 = 17;

/// Whom a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum To {
    /// The port of this number.
    Port(u8),
    /// All but that from which it came.
    All,
}

/// Returns whom a frame is for; nobody, if it is neither ARP nor IPv4.
pub(super) fn destination(frame: &[u8]) -> Option<To> {
    let kind = frame.get(12..HEADER)?;
    if kind != ARP && kind != IPV4 {
        return None;
    }
    // The lowest bit of an address says that it is one of many.
    Some(if frame[0] & 1 == 1 { To::All } else { To::Port(frame[5]) })
}

/// Writes the checksum of a TCP segment or UDP datagram: the sender's kernel left that to a network card, and there is
/// none. Other frames stay as they are.
pub(super) fn mend(frame: &mut [u8]) {
    let _ = try_mend(frame);
}

fn try_mend(frame: &mut [u8]) -> Option<()> {
    if frame.get(12..HEADER)? != IPV4 {
        return None;
    }
    let packet = frame.get_mut(HEADER..)?;
    let header = usize::from(packet.first()? & 0x0f) * 4;
    let total = usize::from(u16::from_be_bytes([*packet.get(2)?, *packet.get(3)?]));
    // A part of a packet that was divided has no checksum of its own.
    let is_part = u16::from_be_bytes([*packet.get(6)?, *packet.get(7)?]) & 0x3fff != 0;
    let protocol = *packet.get(9)?;
    let place = match protocol {
        TCP => 16,
        UDP => 6,
        _ => return None,
    };
    let ends = sum(packet.get(12..20)?);
    let segment = packet.get_mut(header..total)?;
    if is_part || segment.len() < place + 2 {
        return None;
    }
    segment[place..place + 2].fill(0);
    let length = u64::try_from(segment.len()).ok()?;
    let mut sum = ends + u64::from(protocol) + length + sum(segment);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let mut checksum = !(sum as u16);
    if protocol == UDP && checksum == 0 {
        // In UDP no checksum is written as 0.
        checksum = 0xffff;
    }
    segment[place..place + 2].copy_from_slice(&checksum.to_be_bytes());
    Some(())
}

/// Adds up words of two bytes; an odd byte at the end counts as if a 0 followed.
fn sum(bytes: &[u8]) -> u64 {
    let words = bytes.chunks(2);
    words.map(|word| u64::from(u16::from_be_bytes([word[0], *word.get(1).unwrap_or(&0)]))).sum()
}

#[cfg(test)]
mod tests {
    use super::{ARP, HEADER, IPV4, TCP, To, UDP, destination, mend};

    /// From port 1 to port 2, 10.99.7.1 to 10.99.7.2, with checksums that are right.
    const FRAMES: [(u8, usize, &str); 2] = [
        (
            UDP,
            6,
            "02000000000202000000000108004500002100004000401118040a6307010a63070204d2270f000d6d5868656c6c6f",
        ),
        (
            TCP,
            16,
            "02000000000202000000000108004500002d00004000400618030a6307010a63070204d2270f0000000100000002\
             501801f41b55000068656c6c6f",
        ),
    ];

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
            .collect()
    }

    #[test]
    fn checksums_are_written_whatever_stood_there_and_whatever_is_behind_the_packet() {
        for (protocol, place, hex) in FRAMES {
            let right = bytes(hex);
            let mut frame = right.clone();
            frame[HEADER + 20 + place] ^= 0xff;
            mend(&mut frame);
            assert_eq!(frame, right, "{protocol}");
            // A short packet is filled up to the shortest frame.
            frame[HEADER + 20 + place] ^= 0xff;
            frame.extend([7; 20]);
            mend(&mut frame);
            assert_eq!(frame[..right.len()], right, "{protocol}");
        }
    }

    #[test]
    fn what_is_no_whole_segment_stays_as_it_is() {
        for (_, place, hex) in FRAMES {
            let mut frame = bytes(hex);
            frame[HEADER + 20 + place] ^= 0xff;
            for length in 0..frame.len() {
                let mut cut = frame[..length].to_vec();
                mend(&mut cut);
                assert_eq!(cut, frame[..length], "{length}");
            }
            let other = |at: usize, byte: u8| {
                let mut other = frame.clone();
                other[at] = byte;
                other
            };
            // ICMP; a part that is not the last; ARP.
            for mut other in [other(HEADER + 9, 1), other(HEADER + 6, 0x20), other(13, ARP[1])] {
                let before = other.clone();
                mend(&mut other);
                assert_eq!(other, before);
            }
        }
    }

    #[test]
    fn a_frame_goes_to_the_port_of_its_address_or_to_all() {
        let frame = |address: [u8; 6], kind: [u8; 2]| [&address[..], &[0; 6], &kind].concat();
        let node = [2, 0, 0, 0, 0, 3];
        assert_eq!(destination(&frame(node, IPV4)), Some(To::Port(3)));
        assert_eq!(destination(&frame([0xff; 6], ARP)), Some(To::All));
        assert_eq!(destination(&frame(node, [0x86, 0xdd])), None);
        assert_eq!(destination(&frame(node, IPV4)[..13]), None);
    }
}
