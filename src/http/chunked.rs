//! The chunked coding (RFC 9112, section 7.1), as a machine over bytes.
//!
//! Framing goes through [`Chunked::framing`] byte by byte, so that where the input was cut makes no
//! difference; data does not pass through the machine, it only counts.

use crate::http::status::Refusal;

/// Bytes of the line before a chunk, with its extension.
const SIZE_LINE_MAX: usize = 256;
/// Bytes of all trailer fields; they are checked and dropped, never merged into the head's.
const TRAILERS_MAX: usize = 4 << 10;

/// Where in a chunked body the next byte lies.
#[derive(Clone, Debug)]
pub struct Chunked {
    state: State,
    /// Size of the chunk whose size line is being read; then bytes of data still to come.
    left: u64,
    /// Bytes of this size line, or of the trailers.
    seen: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before the first digit of a size, where there must be one.
    Size,
    /// After a digit.
    Digits,
    /// In an extension's name, empty so far.
    Extension,
    /// In an extension's name.
    Name,
    /// After the `=` of an extension.
    Equals,
    /// In an extension's value.
    Value,
    /// In an extension's quoted value.
    Quoted,
    /// After a backslash in a quoted value.
    Escaped,
    /// After a quoted value.
    Unquoted,
    /// Before the LF of a size line.
    SizeLf,
    /// In data: `left` bytes of it.
    Data,
    /// Before the CR after data.
    DataCr,
    /// Before the LF after data.
    DataLf,
    /// At the start of a trailer line.
    Trailer,
    /// In a trailer's name.
    TrailerName,
    /// In a trailer's value.
    TrailerValue,
    /// Before the LF of a trailer line.
    TrailerLf,
    /// Before the last LF.
    LastLf,
    /// Behind the body.
    End,
}

impl Default for Chunked {
    fn default() -> Chunked {
        Chunked { state: State::Size, left: 0, seen: 0 }
    }
}

impl Chunked {
    /// Bytes of data that come next; 0 while framing comes next.
    pub fn data_left(&self) -> u64 {
        if self.state == State::Data { self.left } else { 0 }
    }

    /// Counts data that was read, at most [`Chunked::data_left`].
    pub fn took(&mut self, n: u64) {
        assert!(n <= self.data_left(), "more data taken than the chunk holds");
        self.left -= n;
        if self.left == 0 && n > 0 {
            self.state = State::DataCr;
        }
    }

    /// Whether the whole body has been read.
    pub fn is_over(&self) -> bool {
        self.state == State::End
    }

    /// Reads framing at the start of `bytes`, up to data or the end; returns how many bytes it was.
    pub fn framing(&mut self, bytes: &[u8]) -> Result<usize, Refusal> {
        for (n, byte) in bytes.iter().enumerate() {
            if matches!(self.state, State::Data | State::End) {
                return Ok(n);
            }
            self.count()?;
            self.state = self.next(*byte)?;
        }
        Ok(bytes.len())
    }

    fn count(&mut self) -> Result<(), Refusal> {
        use State::*;
        self.seen += 1;
        let in_trailers =
            matches!(self.state, Trailer | TrailerName | TrailerValue | TrailerLf | LastLf);
        match in_trailers {
            true if self.seen > TRAILERS_MAX => Err(Refusal::new(431, "the trailers are too long")),
            false if self.seen > SIZE_LINE_MAX => {
                Err(Refusal::bad("a chunk's size line is too long"))
            }
            _ => Ok(()),
        }
    }

    fn next(&mut self, byte: u8) -> Result<State, Refusal> {
        use State::*;
        match self.state {
            Size | Digits => self.size(byte),
            Extension | Name | Equals | Value | Quoted | Escaped | Unquoted => {
                extension(self.state, byte)
            }
            SizeLf => expect(byte, b'\n', self.after_size()),
            DataCr => expect(byte, b'\r', DataLf),
            DataLf => {
                self.seen = 0;
                expect(byte, b'\n', Size)
            }
            Trailer | TrailerName | TrailerValue | TrailerLf | LastLf => trailer(self.state, byte),
            Data | End => unreachable!("framing stops here"),
        }
    }

    fn size(&mut self, byte: u8) -> Result<State, Refusal> {
        if let Some(digit) = char::from(byte).to_digit(16) {
            if self.left > u64::MAX >> 4 {
                return Err(Refusal::bad("a chunk larger than any body"));
            }
            self.left = self.left << 4 | u64::from(digit);
            return Ok(State::Digits);
        }
        match (self.state, byte) {
            (State::Digits, b';') => Ok(State::Extension),
            (State::Digits, b'\r') => Ok(State::SizeLf),
            _ => Err(Refusal::bad("a chunk's size is hexadecimal digits alone")),
        }
    }

    fn after_size(&mut self) -> State {
        self.seen = 0;
        if self.left > 0 { State::Data } else { State::Trailer }
    }
}

fn expect(byte: u8, expected: u8, then: State) -> Result<State, Refusal> {
    match byte == expected {
        true => Ok(then),
        false => Err(Refusal::bad("CRLF ends a chunk's size and its data")),
    }
}

/// RFC 9112, section 7.1.1: `;name`, `;name=token` or `;name="quoted"`, read away.
fn extension(state: State, byte: u8) -> Result<State, Refusal> {
    use State::*;
    match (state, byte) {
        (Name | Value | Unquoted, b'\r') => Ok(SizeLf),
        (Name | Value | Unquoted, b';') => Ok(Extension),
        (Name, b'=') => Ok(Equals),
        (Extension | Name, b) if is_token(b) => Ok(Name),
        (Equals, b'"') => Ok(Quoted),
        (Equals | Value, b) if is_token(b) => Ok(Value),
        (Quoted, b'"') => Ok(Unquoted),
        (Quoted, b'\\') => Ok(Escaped),
        (Quoted | Escaped, b) if is_text(b) => Ok(Quoted),
        _ => Err(Refusal::bad("a chunk's extension")),
    }
}

fn trailer(state: State, byte: u8) -> Result<State, Refusal> {
    use State::*;
    match (state, byte) {
        (Trailer, b'\r') => Ok(LastLf),
        (Trailer | TrailerName, b) if is_token(b) => Ok(TrailerName),
        (TrailerName, b':') => Ok(TrailerValue),
        (TrailerValue, b'\r') => Ok(TrailerLf),
        (TrailerValue, b) if is_text(b) => Ok(TrailerValue),
        (TrailerLf, b'\n') => Ok(Trailer),
        (LastLf, b'\n') => Ok(End),
        _ => Err(Refusal::bad("a trailer field")),
    }
}

/// RFC 9110, section 5.6.2.
fn is_token(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

fn is_text(b: u8) -> bool {
    b == b'\t' || !b.is_ascii_control()
}
