//! The rules of the control file.

use std::io;
use std::path::Path;

use milter_tower::{Actions, MacroStage, Needs, Stage};
use tracing::{error, warn};

use crate::words;

/// A line of the control file that is about a stage.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    stage: Stage,
    selector: Option<Vec<u8>>,
    /// What to do.
    pub(crate) action: Vec<u8>,
    /// The words after the action.
    pub(crate) args: Vec<Vec<u8>>,
}

impl Rule {
    /// Whether the rule is for this callback. The key is what selectors are compared with.
    pub(crate) fn fits(&self, stage: Stage, key: &[u8]) -> bool {
        let fits_key = |selector: &Vec<u8>| selector.eq_ignore_ascii_case(key);
        self.stage == stage && self.selector.as_ref().is_none_or(fits_key)
    }

    /// Reads a line; none if it is none, or empty, or a comment.
    pub(crate) fn parse(line: &[u8]) -> Option<Self> {
        match Line::parse(line)? {
            Line::Rule(rule) => Some(rule),
            Line::Option(_) => None,
        }
    }
}

/// What a line says.
enum Line {
    Option(Vec<Vec<u8>>),
    Rule(Rule),
}

impl Line {
    fn parse(line: &[u8]) -> Option<Self> {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.starts_with(b"#") {
            return None;
        }
        let mut words = words::split(line);
        let place = words.next()?;
        if place == b"option" {
            return Some(Self::Option(words.map(words::decode).collect()));
        }
        let mut parts = place.splitn(2, |&byte| byte == b':');
        let stage = parts.next().and_then(stage);
        let selector = parts.next().map(words::decode);
        let (Some(stage), Some(action)) = (stage, words.next()) else {
            warn!(line = %line.escape_ascii(), "this is no rule");
            return None;
        };
        Some(Self::Rule(Rule {
            stage,
            selector,
            action: words::decode(action),
            args: words.map(words::decode).collect(),
        }))
    }
}

/// What the control file says.
#[derive(Clone, Debug)]
pub(crate) struct Orders {
    /// What to ask for in the negotiation; none to refuse it.
    pub(crate) needs: Option<Needs>,
    pub(crate) rules: Vec<Rule>,
}

impl Orders {
    /// Reads the file. A missing one is an empty one.
    pub(crate) fn read(path: &Path) -> Self {
        let text = std::fs::read(path).unwrap_or_else(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                error!(path = %path.display(), %error, "cannot read the control file");
            }
            Vec::new()
        });
        Self::parse(&text)
    }

    fn parse(text: &[u8]) -> Self {
        let (mut wishes, mut rules) = (Wishes::default(), Vec::new());
        for line in text.split(|&byte| byte == b'\n').filter_map(Line::parse) {
            match line {
                Line::Rule(rule) => rules.push(rule),
                Line::Option(words) => {
                    if wishes.add(&words).is_none() {
                        let option = words.join(&b' ');
                        warn!(option = %option.escape_ascii(), "not all of this option is known");
                    }
                }
            }
        }
        let needs = (!wishes.refuse).then(|| wishes.into_needs());
        Self { needs, rules }
    }
}

/// What the options say.
struct Wishes {
    /// Without the actions.
    needs: Needs,
    actions: Option<Actions>,
    refuse: bool,
}

impl Default for Wishes {
    fn default() -> Self {
        Self {
            needs: Needs::none().events(Stage::ALL),
            actions: None,
            refuse: false,
        }
    }
}

impl Wishes {
    fn into_needs(self) -> Needs {
        self.needs
            .optional_action(self.actions.unwrap_or(Actions::CHANGES))
    }

    /// Takes an option as far as it is known; none if that is not all of it.
    fn add(&mut self, words: &[Vec<u8>]) -> Option<()> {
        let (option, words) = words.split_first()?;
        match option.as_slice() {
            b"steps" => {
                for name in words {
                    self.needs = with_step(self.needs.clone(), name)?;
                }
            }
            b"actions" => {
                let actions = self.actions.get_or_insert_default();
                for name in words {
                    *actions |= action(name)?;
                }
            }
            b"macros" => {
                let (stage, names) = words.split_first()?;
                let names = names
                    .iter()
                    .map(|name| String::from_utf8_lossy(name).into_owned());
                self.needs = self.needs.clone().macros_exact(macro_stage(stage)?, names);
            }
            b"refuse" => self.refuse = true,
            _ => return None,
        }
        Some(())
    }
}

fn with_step(needs: Needs, name: &[u8]) -> Option<Needs> {
    Some(match name {
        b"skip" => needs.skip(),
        b"rcptrej" => needs.rejected_recipients(),
        b"leadspc" => needs.leading_space(),
        _ => match name.strip_prefix(b"nr_") {
            Some(name) => match stage(name)? {
                stage if needs.wants(stage) => needs.without(stage).record(stage),
                // What does not come gets no reply anyway.
                _ => needs,
            },
            None => needs.without(stage(name.strip_prefix(b"no")?)?),
        },
    })
}

fn stage(name: &[u8]) -> Option<Stage> {
    Some(match name {
        b"connect" => Stage::Connect,
        b"helo" => Stage::Helo,
        b"mail" => Stage::Mail,
        b"rcpt" => Stage::Rcpt,
        b"data" => Stage::Data,
        b"header" => Stage::Header,
        b"eoh" => Stage::EndOfHeaders,
        b"body" => Stage::Body,
        b"eom" => Stage::EndOfMessage,
        b"unknown" => Stage::Unknown,
        _ => return None,
    })
}

fn action(name: &[u8]) -> Option<Actions> {
    Some(match name {
        b"addheader" => Actions::ADD_HEADERS,
        b"chgbody" => Actions::CHANGE_BODY,
        b"addrcpt" => Actions::ADD_RECIPIENTS,
        b"delrcpt" => Actions::DELETE_RECIPIENTS,
        b"chgheader" => Actions::CHANGE_HEADERS,
        b"quarantine" => Actions::QUARANTINE,
        b"chgfrom" => Actions::CHANGE_SENDER,
        b"addrcpt_par" => Actions::ADD_RECIPIENTS_WITH_ARGS,
        _ => return None,
    })
}

fn macro_stage(name: &[u8]) -> Option<MacroStage> {
    Some(match name {
        b"connect" => MacroStage::Connect,
        b"helo" => MacroStage::Helo,
        b"mail" => MacroStage::Mail,
        b"rcpt" => MacroStage::Rcpt,
        b"data" => MacroStage::Data,
        b"eoh" => MacroStage::EndOfHeaders,
        b"eom" => MacroStage::EndOfMessage,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_are_compared_without_case() {
        let rule = Rule::parse(b"rcpt:%42ob@x:y reply 550 % no%20one\r").unwrap();
        assert!(rule.fits(Stage::Rcpt, b"bob@X:Y"));
        assert!(!rule.fits(Stage::Rcpt, b"bob") && !rule.fits(Stage::Mail, b"bob@x:y"));
        assert_eq!(rule.action, b"reply");
        assert_eq!(rule.args, [&b"550"[..], b"", b"no one"]);
        let null_sender = Rule::parse(b"mail: accept").unwrap();
        assert!(null_sender.fits(Stage::Mail, b"") && !null_sender.fits(Stage::Mail, b"a@b"));
        assert!(
            Rule::parse(b"eom accept")
                .unwrap()
                .fits(Stage::EndOfMessage, b"x")
        );
    }

    #[test]
    fn comments_and_nonsense_are_no_rules() {
        for line in [
            &b""[..],
            b"# eom accept",
            b"eom",
            b"nowhere accept",
            b"option refuse",
        ] {
            assert!(Rule::parse(line).is_none(), "{}", line.escape_ascii());
        }
    }

    #[test]
    fn options_make_the_needs() {
        let all = Orders::parse(b"\n#\nmail reject\n");
        assert_eq!((all.needs, all.rules.len()), (Some(Needs::all()), 1));
        let orders = Orders::parse(
            b"option steps nobody nr_header nr_body skip\noption actions addheader\noption steps nr_eoh",
        );
        let needs = orders.needs.unwrap();
        assert!(!needs.wants(Stage::Body) && !needs.is_silent(Stage::Mail));
        assert!(needs.is_silent(Stage::Header) && needs.is_silent(Stage::EndOfHeaders));
        assert_eq!(needs.optional_actions(), Actions::ADD_HEADERS);
        assert!(Orders::parse(b"option refuse").needs.is_none());
    }
}
