//! Headers, what filters make of them, and the plan that does the same at once.
//!
//! The input is three lines: the mail server (`p` Postfix, `s` Sendmail, `0` to `4` Sendmail with
//! other header lines, `l` leading space, `n` the nearest where something cannot be had, `w` wanted
//! headers instead of edits); the headers that the mail came with; and what is done to them. A
//! header is two letters, for its name and for its value; `r` stands for a text of any bytes, its
//! length before it.
//!
//! | letter | |
//! | --- | --- |
//! | `h` `i` `x` `d` | add, insert, change, delete: the index behind it, then the header |
//! | `\|` | the next filter |
//!
//! Wanted headers are a place each, and a header: `+` for a new one, `^` for a new one on top.

use milter_core::edit::{Edited, Mail, PlanError, Planner, Profile, Unplaceable};
use milter_core::{Header, Modification};

use super::input::Choices;

const NAMES: [&str; 10] = [
    "X-A",
    "x-a",
    "X-B",
    "Subject",
    "Date",
    "Received",
    "Return-Path",
    "From",
    "Resent-Date",
    "message-id",
];
const VALUES: [&str; 10] = [
    " 1", " 2", " ", "  two", " a\n b", "", "1", "\t1", " a\rb", " a\nb",
];
/// Most headers, and most edits.
const MOST: usize = 60;

/// A plan for what filters did one after the other, or for any list of wanted headers: it is made,
/// or the error says truly why not; it is the same in the order in which modifications are sent; and
/// the mail server makes of it the headers that were wanted.
///
/// # Panics
///
/// If something is wrong.
pub fn planner(data: &[u8]) {
    let mut input = Choices::new(data);
    let case = Case::read(&mut input);
    let edits = input.rest();
    if case.wants {
        case.wanted(&mut Choices::new(edits));
    } else {
        case.edited(&mut Choices::new(edits));
    }
}

struct Case {
    profile: Profile,
    leading_space: bool,
    unplaceable: Unplaceable,
    wants: bool,
    came: Vec<Header>,
}

impl Case {
    fn read(input: &mut Choices<'_>) -> Self {
        let mut line = Choices::new(input.line());
        let mut case = Self {
            profile: Profile::postfix(),
            leading_space: false,
            unplaceable: Unplaceable::Refuse,
            wants: false,
            came: Vec::new(),
        };
        while !line.is_empty() {
            let sendmail =
                |names: &'static [&'static str]| Profile::sendmail_with(names.iter().copied());
            match line.letter(b"pslnw01234") {
                b's' => case.profile = Profile::sendmail(),
                b'l' => case.leading_space = true,
                b'n' => case.unplaceable = Unplaceable::Nearest,
                b'w' => case.wants = true,
                b'0' => case.profile = sendmail(&[]),
                b'1' => case.profile = sendmail(&["Received"]),
                b'2' => case.profile = sendmail(&["Received", "Date"]),
                b'3' => case.profile = sendmail(&["Date"]),
                b'4' => case.profile = sendmail(&["Date", "From", "received", "Resent-X"]),
                _ => {}
            }
        }
        let mut headers = Choices::new(input.line());
        while !headers.is_empty() && case.came.len() < MOST {
            case.came.push(header(&mut headers));
        }
        case
    }

    fn mail(&self) -> Mail {
        let mail = Mail::new(self.profile.clone()).with_received(Header::new("Received", " own"));
        self.came.iter().cloned().fold(mail, Mail::with_header)
    }

    /// What filters do, one after the other.
    fn edited(&self, input: &mut Choices<'_>) {
        let mut mail = self.mail();
        let mut filters = Vec::new();
        let mut filter = Vec::new();
        for _ in 0..MOST {
            if input.is_empty() {
                break;
            }
            match edit(input) {
                // A filter that makes an edit that cannot be made fails.
                Some(edit) => filter.extend(edit),
                None => filters.push(std::mem::take(&mut filter)),
            }
        }
        filters.push(filter);
        for filter in filters {
            mail.apply(&Modification::order(filter), self.leading_space)
                .expect("only headers");
        }
        let wanted: Vec<Edited<'_>> = mail.edited().collect();
        let shown: Vec<Header> = mail.shown_headers(true).collect();
        self.plan(&wanted, &shown);
    }

    /// Any list at all.
    fn wanted(&self, input: &mut Choices<'_>) {
        let mut list = Vec::new();
        while !input.is_empty() && list.len() < MOST {
            list.push((input.byte(), header(input)));
        }
        let edited = |(place, header)| -> Edited<'_> {
            match place {
                b'+' => Edited::added(header),
                b'^' => Edited::added_on_top(header),
                place => Edited::shown(usize::from(place.wrapping_sub(b'0')), header),
            }
        };
        let wanted: Vec<Edited<'_>> = list.iter().map(|(at, one)| edited((*at, one))).collect();
        let headers: Vec<Header> = list.iter().map(|(_, header)| header.clone()).collect();
        self.plan(&wanted, &headers);
    }

    fn plan(&self, wanted: &[Edited<'_>], headers: &[Header]) {
        let planner = Planner::new(&self.profile)
            .leading_space(self.leading_space)
            .unplaceable(self.unplaceable);
        let plan = match planner.plan(&self.came, wanted.iter().copied()) {
            Ok(plan) => plan,
            Err(error) => return self.explains(&error, headers),
        };
        assert!(plan.len() <= self.came.len() + wanted.len(), "{plan:?}");
        let mut mail = self.mail();
        mail.apply(&plan, self.leading_space).expect("only headers");
        let left: Vec<Header> = mail.headers().cloned().collect();
        let mut ordered = self.mail();
        let edits = Modification::order(plan.clone());
        ordered
            .apply(&edits, self.leading_space)
            .expect("only headers");
        assert_eq!(
            left,
            ordered.headers().cloned().collect::<Vec<_>>(),
            "{plan:?}"
        );
        let left: Vec<Header> = mail.shown_headers(true).collect();
        if self.unplaceable == Unplaceable::Refuse {
            assert_eq!(left, headers, "{plan:?}");
        } else {
            assert_eq!(left.len(), headers.len(), "{plan:?}");
        }
    }

    /// Whether there is such a reason.
    fn explains(&self, error: &PlanError, headers: &[Header]) {
        let any = |test: fn(&Header) -> bool| self.came.iter().chain(headers).any(test);
        let explained = match error {
            PlanError::Header(_) => any(|one| is_odd(&one.name()) || one.value().contains([0])),
            _ if self.unplaceable == Unplaceable::Nearest => false,
            PlanError::LeadingSpace(_) => {
                !self.leading_space && any(|one| !one.value().starts_with(b" "))
            }
            PlanError::Lines(_) => {
                any(|one| one.value().contains("\r") || one.value().contains("\n"))
            }
            PlanError::Place(_) | PlanError::HeldBack(_) => self.profile != Profile::postfix(),
            _ => false,
        };
        assert!(explained, "{error}");
    }
}

/// Whether it is no header's name.
fn is_odd(name: &[u8]) -> bool {
    name.is_empty()
        || name
            .iter()
            .any(|&byte| byte == b':' || !byte.is_ascii_graphic())
}

fn header(input: &mut Choices<'_>) -> Header {
    let name: &[u8] = text(input, &NAMES);
    let value: &[u8] = text(input, &VALUES);
    Header::new(name.to_vec(), value.to_vec())
}

fn text<'a>(input: &mut Choices<'a>, of: &[&'static str]) -> &'a [u8] {
    let mut ahead = input.clone();
    if ahead.byte() == b'r' {
        *input = ahead;
        input.text()
    } else {
        input.pick(of).as_bytes()
    }
}

/// An edit, if it can be made; none where the next filter begins.
fn edit(input: &mut Choices<'_>) -> Option<Result<Modification, milter_core::ModificationError>> {
    let letter = input.letter(b"hixd|");
    if letter == b'|' {
        return None;
    }
    let index = u32::try_from(input.below(64)).expect("small");
    Some(match letter {
        b'd' => Modification::delete_header(text(input, &NAMES), index),
        b'i' => {
            let header = header(input);
            Modification::insert_header(index, header.name(), header.value())
        }
        b'x' => {
            let header = header(input);
            Modification::change_header(header.name(), index, header.value())
        }
        _ => {
            let header = header(input);
            Modification::add_header(header.name(), header.value())
        }
    })
}
