//! Passwords that everyone tries first: a word of the usual lists, however it is dressed up.
//!
//! The thousand commonest passwords are some hundred words and runs of keys with a capital, a digit, a year or
//! a mark, so the words are kept and the dress is taken off: `P@ssw0rd2024!` is `password`. Numbers alone, and
//! a few characters said again and again, are no better.

/// Numbers of fewer digits are soon tried out.
const DIGITS_MIN: usize = 12;
/// A pattern that is only repeated has at most so many characters.
const PATTERN_MAX: usize = 4;

/// Words and runs of keys, in lower case and in order.
const WORDS: &[&str] = &[
    "abc",
    "abcd",
    "abcdef",
    "abcdefg",
    "abcdefgh",
    "access",
    "admin",
    "administrator",
    "alexander",
    "america",
    "andrew",
    "angel",
    "apple",
    "arsenal",
    "asdf",
    "asdfasdf",
    "asdfgh",
    "asdfghjk",
    "asdfghjkl",
    "ashley",
    "august",
    "babygirl",
    "bailey",
    "banana",
    "barcelona",
    "baseball",
    "basketball",
    "batman",
    "beautiful",
    "benjamin",
    "blink",
    "brandon",
    "butterfly",
    "change",
    "changeit",
    "changeme",
    "charlie",
    "cheese",
    "chelsea",
    "chocolate",
    "christian",
    "christopher",
    "cloud",
    "computer",
    "cookie",
    "corvette",
    "cowboys",
    "daniel",
    "december",
    "default",
    "diamond",
    "dolphin",
    "donald",
    "dragon",
    "eagles",
    "einstein",
    "elephant",
    "elizabeth",
    "facebook",
    "fender",
    "ferrari",
    "flower",
    "football",
    "forever",
    "freedom",
    "friend",
    "friends",
    "garfield",
    "george",
    "ginger",
    "google",
    "guest",
    "hannah",
    "harley",
    "hello",
    "helloworld",
    "hockey",
    "hunter",
    "iloveu",
    "iloveyou",
    "internet",
    "jackson",
    "january",
    "jasmine",
    "jennifer",
    "jessica",
    "jesus",
    "jordan",
    "joshua",
    "juventus",
    "killer",
    "letmein",
    "liverpool",
    "login",
    "london",
    "love",
    "lovely",
    "loveme",
    "maggie",
    "manchester",
    "marina",
    "marlboro",
    "master",
    "matthew",
    "maverick",
    "mercedes",
    "michael",
    "michelle",
    "midnight",
    "minecraft",
    "monday",
    "monkey",
    "mustang",
    "mynoob",
    "naruto",
    "nicholas",
    "nicole",
    "nintendo",
    "november",
    "october",
    "orange",
    "password",
    "passwort",
    "patrick",
    "peaches",
    "penncloud",
    "pepper",
    "phoenix",
    "playboy",
    "pokemon",
    "princess",
    "purple",
    "qazwsx",
    "qazwsxedc",
    "qwer",
    "qwert",
    "qwerty",
    "qwertyui",
    "qwertyuiop",
    "rainbow",
    "rangers",
    "robert",
    "samantha",
    "samsung",
    "scooter",
    "secret",
    "september",
    "shadow",
    "silver",
    "slipknot",
    "snoopy",
    "soccer",
    "spiderman",
    "starwars",
    "steelers",
    "summer",
    "sunday",
    "sunflower",
    "sunshine",
    "superman",
    "superstar",
    "system",
    "taylor",
    "tennis",
    "test",
    "testing",
    "thomas",
    "thunder",
    "tigger",
    "trustno",
    "twilight",
    "unknown",
    "user",
    "victoria",
    "vincent",
    "welcome",
    "whatever",
    "william",
    "winter",
    "wizard",
    "yankees",
    "yellow",
    "zaqwsx",
    "zxcvbn",
    "zxcvbnm",
];

/// Keys pressed in turns, where the digits are part of the run.
const RUNS: &[&str] = &[
    "1a2b3c4d",
    "1q2w3e4r",
    "1q2w3e4r5t",
    "1qaz2wsx",
    "1qaz2wsx3edc",
    "a1b2c3d4",
    "q1w2e3r4",
    "zaq12wsx",
];

/// Whether a password, in lower case, is among the first that are tried.
pub(super) fn is_common(lower: &str) -> bool {
    is_number(lower) || is_repeated(lower) || RUNS.contains(&lower) || is_word(lower)
}

fn is_number(password: &str) -> bool {
    password.len() < DIGITS_MIN && password.bytes().all(|b| b.is_ascii_digit())
}

fn is_repeated(password: &str) -> bool {
    let chars: Vec<char> = password.chars().collect();
    (1..=PATTERN_MAX.min(chars.len() / 2))
        .any(|n| chars.iter().enumerate().all(|(i, c)| *c == chars[i % n]))
}

fn is_word(password: &str) -> bool {
    let dress = |c: char| c.is_ascii_digit() || c.is_ascii_punctuation() || c == ' ';
    let bare = password.trim_end_matches(dress).trim_start_matches(|c: char| c.is_ascii_digit());
    let known = |word: &str| WORDS.binary_search(&word).is_ok();
    known(bare) || known(&undisguised(bare)) || known(&undisguised(password))
}

/// Letters in the place of the digits and marks that look like them.
fn undisguised(word: &str) -> String {
    let letter = |c| match c {
        '0' => 'o',
        '1' | '!' => 'i',
        '3' => 'e',
        '4' | '@' => 'a',
        '5' | '$' => 's',
        '7' => 't',
        other => other,
    };
    word.chars().map(letter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_in_order() {
        assert!(WORDS.is_sorted(), "they are searched by halves");
    }

    #[test]
    fn dressed_up_words_are_known() {
        for bad in [
            "password",
            "password1",
            "p@ssw0rd",
            "p@ssw0rd2024!",
            "passw0rd",
            "qwerty123",
            "12345678",
            "1234567890",
            "11111111",
            "abcabcabc",
            "letmein1",
            "trustno1",
            "1q2w3e4r",
            "123qwerty",
            "welcome2025",
            "iloveyou!!",
            "sunshine7",
            "penncloud1",
        ] {
            assert!(is_common(bad), "{bad}");
        }
    }

    #[test]
    fn other_passwords_are_not() {
        for good in [
            "correct horse",
            "passwordless life",
            "mein hund heißt rex",
            "491827364550",
            "sunflower seeds",
        ] {
            assert!(!is_common(good), "{good}");
        }
    }
}
