//! The text of a message as a page shows it: what is quoted apart, and web addresses as links.

/// Characters that a web address ends before, as people write it within a sentence.
const TRAILING: &[char] = &['.', ',', ';', ':', '!', '?', ')', ']', '\'', '"', '*', '_'];
/// Bytes of a web address that becomes a link.
const LINK_BYTES_MAX: usize = 2000;

/// Lines that belong together.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Block<'a> {
    /// Whether they are quoted from an earlier message.
    pub quoted: bool,
    /// Their text, in pieces.
    pub pieces: Vec<Piece<'a>>,
}

/// A piece of text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Piece<'a> {
    /// The text.
    pub text: &'a str,
    /// Whether it is an address of the web.
    pub link: bool,
}

/// Cuts a text into blocks.
pub(super) fn blocks(text: &str) -> Vec<Block<'_>> {
    let mut blocks = Vec::new();
    let mut rest = text.trim_end();
    while !rest.is_empty() {
        let quoted = rest.starts_with('>');
        let lines = rest.split_inclusive('\n').take_while(|line| line.starts_with('>') == quoted);
        let (block, later) = rest.split_at(lines.map(str::len).sum());
        blocks.push(Block { quoted, pieces: pieces(block.trim_end_matches('\n')) });
        rest = later;
    }
    blocks
}

fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((start, end)) = next_link(rest) {
        let link = Piece { text: &rest[start..end], link: true };
        pieces.extend([Piece { text: &rest[..start], link: false }, link]);
        rest = &rest[end..];
    }
    pieces.push(Piece { text: rest, link: false });
    pieces.retain(|piece| !piece.text.is_empty());
    pieces
}

/// Where the next web address begins and ends.
fn next_link(text: &str) -> Option<(usize, usize)> {
    let mut from = 0;
    loop {
        let start = from + find_scheme(&text[from..])?;
        let is_end = |c: char| c.is_whitespace() || c.is_control() || "<>\"“”«»".contains(c);
        let word = text[start..].split(is_end).next().unwrap_or_default();
        let word = word.trim_end_matches(TRAILING);
        let host = word.split_once("://").map_or("", |(_, host)| host);
        if !host.is_empty() && word.len() <= LINK_BYTES_MAX {
            return Some((start, start + word.len()));
        }
        from = start + "http".len();
    }
}

fn find_scheme(text: &str) -> Option<usize> {
    ["https://", "http://"].iter().filter_map(|scheme| text.find(scheme)).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links(text: &str) -> Vec<&str> {
        pieces(text).into_iter().filter(|piece| piece.link).map(|piece| piece.text).collect()
    }

    #[test]
    fn quoted_lines_stand_apart() {
        let blocks = blocks("Hi\n\nyou\n> old\n>> older\nbye\n\n");
        let shown: Vec<(bool, String)> =
            blocks.iter().map(|b| (b.quoted, b.pieces.iter().map(|p| p.text).collect())).collect();
        let want = [(false, "Hi\n\nyou"), (true, "> old\n>> older"), (false, "bye")];
        assert_eq!(shown, want.map(|(quoted, text)| (quoted, text.to_string())));
        assert!(super::blocks("").is_empty());
    }

    #[test]
    fn only_web_addresses_become_links() {
        assert_eq!(
            links("see https://x.org/a?b=1&c, or (http://y.org)."),
            ["https://x.org/a?b=1&c", "http://y.org"]
        );
        assert_eq!(links("javascript:alert(1) data:text/html,x http:// https://"), [""; 0]);
        assert_eq!(links("<https://x.org/\"onclick=\"x>"), ["https://x.org/"]);
        let text = "a https://x.org/ü b";
        assert_eq!(pieces(text).iter().map(|p| p.text).collect::<String>(), text);
    }
}
