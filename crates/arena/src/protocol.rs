//! The messages of the game, and their encoding.
//!
//! They are payloads of netcode packets, which are encrypted, signed and never repeated, but may be lost or reordered.
//! So nothing relies on a message that is sent only once: inputs are sent again until the server reports them as
//! applied, and every world update is complete. The format is hand-made, because it has only four shapes and fits on
//! one page for the author of a game server.
//!
//! All integers are little-endian. The first byte is the kind:
//!
//! | kind | from | then |
//! |---|---|---|
//! | 1 inputs | player | `first` u32, `count` u8 (1–32), `count` direction bytes |
//! | 16 world | server | `tick` u32, `you` u16, `applied` u32, `count` u8 (0–64), `count` × (`number` u16, `x` u16, `y` u16) |
//! | 17 farewell | server | `reason` u8, see [`Farewell`] |
//!
//! A direction byte is a bit set: up 1, down 2, left 4, right 8. A message must end with its last field.

use crate::world::{Directions, MAX_PLAYERS, Position};

/// Maximum number of inputs in one message.
pub const MAX_INPUTS: usize = 32;

const KIND_INPUTS: u8 = 1;
const KIND_WORLD: u8 = 16;
const KIND_FAREWELL: u8 = 17;

/// Why bytes are not a message of this game.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DecodeError {
    /// The message ends before its last field.
    #[error("the message is cut short")]
    CutShort,
    /// Bytes after the last field.
    #[error("{0} bytes follow the end of the message")]
    TooLong(usize),
    /// The first byte is not a kind of message in this direction.
    #[error("{0} is not a kind of message")]
    UnknownKind(u8),
    /// A direction byte with a bit outside up, down, left and right.
    #[error("{0:#04x} is not a set of directions: only the bits 1, 2, 4 and 8 mean something")]
    UnknownDirection(u8),
    /// A farewell with an unknown reason.
    #[error("{0} is not a reason for a farewell")]
    UnknownReason(u8),
    /// A count that is out of bounds for the message.
    #[error("a count of {0} is out of bounds")]
    BadCount(u8),
}

/// Inputs of one player, sent again until applied.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Inputs {
    /// Sequence number of the first input; a player's inputs are numbered 1, 2, 3, …
    pub first: u32,
    /// 1 to [`MAX_INPUTS`] inputs in order.
    pub directions: Vec<Directions>,
}

/// The position of one player.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Placed {
    /// The player's number within the match.
    pub number: u16,
    /// Where the player is.
    pub position: Position,
}

/// The world as reported to one player.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WorldUpdate {
    /// Ticks since the match began.
    pub tick: u32,
    /// The number of the player this update is for.
    pub you: u16,
    /// Sequence number of that player's last applied input; 0 before the first.
    pub applied: u32,
    /// Every player of the match in order of number, at most [`MAX_PLAYERS`].
    pub players: Vec<Placed>,
}

/// Why the server sends a player away.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Farewell {
    /// The match has come to its end.
    MatchOver,
    /// The platform did not admit the player's seat.
    SeatRefused,
    /// The platform cancelled the match.
    MatchCancelled,
    /// The game server is going away.
    ServerStopping,
    /// The platform could not be asked about the seat.
    PlatformAway,
}

impl Farewell {
    const ALL: [Self; 5] =
        [Self::MatchOver, Self::SeatRefused, Self::MatchCancelled, Self::ServerStopping, Self::PlatformAway];

    const fn code(self) -> u8 {
        match self {
            Self::MatchOver => 1,
            Self::SeatRefused => 2,
            Self::MatchCancelled => 3,
            Self::ServerStopping => 4,
            Self::PlatformAway => 5,
        }
    }

    fn from_code(code: u8) -> Result<Self, DecodeError> {
        Self::ALL.into_iter().find(|reason| reason.code() == code).ok_or(DecodeError::UnknownReason(code))
    }
}

/// What a server sends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ServerMessage {
    /// The state of the world.
    World(WorldUpdate),
    /// The player is sent away; a disconnect follows.
    Farewell(Farewell),
}

impl Inputs {
    /// The encoded message. Inputs beyond [`MAX_INPUTS`] are left out: they are sent again later anyway.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let directions = &self.directions[..self.directions.len().min(MAX_INPUTS)];
        let mut bytes = vec![KIND_INPUTS];
        bytes.extend_from_slice(&self.first.to_le_bytes());
        bytes.push(directions.len() as u8);
        bytes.extend(directions.iter().map(|directions| directions.bits()));
        bytes
    }

    /// Decodes a player's message.
    ///
    /// # Errors
    /// [`DecodeError`] for anything that [`Inputs::encode`] would not produce.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader(bytes);
        let kind = reader.u8()?;
        if kind != KIND_INPUTS {
            return Err(DecodeError::UnknownKind(kind));
        }
        let first = reader.u32()?;
        let count = reader.u8()?;
        if count == 0 || usize::from(count) > MAX_INPUTS {
            return Err(DecodeError::BadCount(count));
        }
        let directions = (0..count)
            .map(|_| {
                let bits = reader.u8()?;
                Directions::from_bits(bits).ok_or(DecodeError::UnknownDirection(bits))
            })
            .collect::<Result<_, _>>()?;
        reader.end()?;
        Ok(Self { first, directions })
    }
}

impl ServerMessage {
    /// The encoded message. Players beyond [`MAX_PLAYERS`] are left out; a world never has more.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Farewell(reason) => vec![KIND_FAREWELL, reason.code()],
            Self::World(update) => {
                let players = &update.players[..update.players.len().min(MAX_PLAYERS)];
                let mut bytes = vec![KIND_WORLD];
                bytes.extend_from_slice(&update.tick.to_le_bytes());
                bytes.extend_from_slice(&update.you.to_le_bytes());
                bytes.extend_from_slice(&update.applied.to_le_bytes());
                bytes.push(players.len() as u8);
                for player in players {
                    bytes.extend_from_slice(&player.number.to_le_bytes());
                    bytes.extend_from_slice(&player.position.x.to_le_bytes());
                    bytes.extend_from_slice(&player.position.y.to_le_bytes());
                }
                bytes
            }
        }
    }

    /// Decodes a server's message.
    ///
    /// # Errors
    /// [`DecodeError`] for anything that [`ServerMessage::encode`] would not produce.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader(bytes);
        let message = match reader.u8()? {
            KIND_WORLD => Self::World(decode_world(&mut reader)?),
            KIND_FAREWELL => Self::Farewell(Farewell::from_code(reader.u8()?)?),
            kind => return Err(DecodeError::UnknownKind(kind)),
        };
        reader.end()?;
        Ok(message)
    }
}

fn decode_world(reader: &mut Reader<'_>) -> Result<WorldUpdate, DecodeError> {
    let (tick, you, applied, count) = (reader.u32()?, reader.u16()?, reader.u32()?, reader.u8()?);
    if usize::from(count) > MAX_PLAYERS {
        return Err(DecodeError::BadCount(count));
    }
    let players = (0..count)
        .map(|_| {
            let number = reader.u16()?;
            Ok(Placed { number, position: Position { x: reader.u16()?, y: reader.u16()? } })
        })
        .collect::<Result<_, _>>()?;
    Ok(WorldUpdate { tick, you, applied, players })
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(DecodeError::CutShort)?;
        self.0 = rest;
        Ok(*head)
    }

    fn u8(&mut self) -> Result<u8, DecodeError> {
        self.take().map(u8::from_le_bytes)
    }

    fn u16(&mut self) -> Result<u16, DecodeError> {
        self.take().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, DecodeError> {
        self.take().map(u32::from_le_bytes)
    }

    fn end(&self) -> Result<(), DecodeError> {
        if self.0.is_empty() { Ok(()) } else { Err(DecodeError::TooLong(self.0.len())) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn inputs() -> impl Strategy<Value = Inputs> {
        let direction = (0u8..16).prop_map(|bits| Directions::from_bits(bits).unwrap());
        (any::<u32>(), vec(direction, 1..=MAX_INPUTS))
            .prop_map(|(first, directions)| Inputs { first, directions })
    }

    fn server_message() -> impl Strategy<Value = ServerMessage> {
        let placed = (any::<u16>(), any::<u16>(), any::<u16>())
            .prop_map(|(number, x, y)| Placed { number, position: Position { x, y } });
        let world = (any::<u32>(), any::<u16>(), any::<u32>(), vec(placed, 0..=MAX_PLAYERS)).prop_map(
            |(tick, you, applied, players)| ServerMessage::World(WorldUpdate { tick, you, applied, players }),
        );
        let farewell = (0..Farewell::ALL.len()).prop_map(|i| ServerMessage::Farewell(Farewell::ALL[i]));
        prop_oneof![world, farewell]
    }

    proptest! {
        #[test]
        fn inputs_come_back_as_they_were(message in inputs()) {
            prop_assert_eq!(Inputs::decode(&message.encode()), Ok(message));
        }

        #[test]
        fn server_messages_survive_a_round_trip(message in server_message()) {
            let bytes = message.encode();
            prop_assert!(bytes.len() <= renetcode::NETCODE_MAX_PAYLOAD_BYTES);
            prop_assert_eq!(ServerMessage::decode(&bytes), Ok(message));
        }

        #[test]
        fn a_message_cut_anywhere_is_refused(message in server_message(), keep in any::<prop::sample::Index>()) {
            let bytes = message.encode();
            prop_assert!(ServerMessage::decode(&bytes[..keep.index(bytes.len())]).is_err());
        }

        #[test]
        fn only_canonical_encodings_are_accepted(
            kind in prop::sample::select(vec![KIND_INPUTS, KIND_WORLD, KIND_FAREWELL, 0, 255]),
            rest in vec(any::<u8>(), 0..80),
        ) {
            let mut bytes = vec![kind];
            bytes.extend(rest);
            if let Ok(message) = Inputs::decode(&bytes) {
                prop_assert_eq!(message.encode(), bytes.clone());
            }
            if let Ok(message) = ServerMessage::decode(&bytes) {
                prop_assert_eq!(message.encode(), bytes);
            }
        }
    }

    #[test]
    fn the_bytes_are_those_of_the_table() {
        let inputs = Inputs {
            first: 0x0102_0304,
            directions: vec![Directions::UP, Directions::LEFT | Directions::DOWN],
        };
        assert_eq!(inputs.encode(), [1, 4, 3, 2, 1, 2, 1, 6]);
        let update = WorldUpdate {
            tick: 5,
            you: 7,
            applied: 6,
            players: vec![Placed { number: 7, position: Position { x: 258, y: 3 } }],
        };
        let expected = [16, 5, 0, 0, 0, 7, 0, 6, 0, 0, 0, 1, 7, 0, 2, 1, 3, 0];
        assert_eq!(ServerMessage::World(update).encode(), expected);
        assert_eq!(ServerMessage::Farewell(Farewell::MatchCancelled).encode(), [17, 3]);
    }

    #[test]
    fn errors_name_what_is_wrong() {
        assert_eq!(Inputs::decode(&[]), Err(DecodeError::CutShort));
        assert_eq!(Inputs::decode(&[1, 0, 0, 0, 0, 0]), Err(DecodeError::BadCount(0)));
        assert_eq!(Inputs::decode(&[1, 0, 0, 0, 0, 1, 16]), Err(DecodeError::UnknownDirection(16)));
        assert_eq!(ServerMessage::decode(&[17, 9]), Err(DecodeError::UnknownReason(9)));
        assert_eq!(ServerMessage::decode(&[17, 1, 0]), Err(DecodeError::TooLong(1)));
        assert_eq!(ServerMessage::decode(&[1]), Err(DecodeError::UnknownKind(1)));
    }
}
