use bytes::Bytes;

use super::*;
use crate::{
    ClientAddr, Connect, Header, Helo, Offer, Recipient, Sender, SmtpReply, UnknownCommand,
};

fn command(code: char) -> Command {
    match code {
        'O' => Command::Negotiate(Offer::V6),
        'C' => Command::Connect(Connect::new("h", ClientAddr::Unknown)),
        'H' => Command::Helo(Helo::new("h")),
        'M' => Command::Mail(Sender::new("<a@b>", [""; 0])),
        'R' => Command::Rcpt(Recipient::new("<c@d>", [""; 0])),
        'T' => Command::Data,
        'U' => Command::Unknown(UnknownCommand::new("FROB")),
        'L' => Command::Header(Header::new("X", "y")),
        'N' => Command::EndOfHeaders,
        'B' => Command::Body(Bytes::from_static(b"b")),
        'E' => Command::EndOfMessage(Bytes::new()),
        'A' => Command::Abort,
        'Q' => Command::Quit,
        'K' => Command::QuitNewConnection,
        _ => panic!("{code}"),
    }
}

/// Macros for the command of this letter.
fn macros_for(code: char) -> Command {
    let payload = Bytes::from(code.to_string());
    Command::parse(b'D', payload).unwrap().unwrap()
}

/// What a filter would see of these commands, where `D` are macros for the command behind it and
/// `d` those of a declined MAIL: its letters, `(` where a message begins, `)` where
/// one ends by a verdict, `x` where one is given up, `.` where a session ends, `=` for what is
/// decided, `!` for what is misplaced, `q` for the end. The verdict at each letter is looked up
/// in `verdicts`.
fn seen(commands: &str, verdicts: &[(char, Verdict)]) -> String {
    let mut state = StateMachine::new();
    let mut out = String::new();
    let mut commands = commands.chars().filter(|c| *c != ' ').peekable();
    while let Some(code) = commands.next() {
        let command = match code {
            'D' => macros_for(commands.peek().copied().unwrap_or('?')),
            'd' => macros_for('M'),
            _ => command(code),
        };
        let Ok(transition) = state.step(&command) else {
            out.push('E');
            break;
        };
        match transition.ends {
            Some(Ends::Message) => out.push('x'),
            Some(Ends::Session) => out.push('.'),
            None => {}
        }
        match transition.step {
            Step::Deliver {
                stage,
                begins_message,
            } => {
                if begins_message {
                    out.push('(');
                }
                out.push(code);
                let verdict = verdicts
                    .iter()
                    .find(|(c, _)| *c == code)
                    .map_or(Verdict::Continue, |(_, v)| v.clone());
                if state.settle(stage, &verdict) {
                    out.push(')');
                }
            }
            Step::Decided { .. } => out.push('='),
            Step::Misplaced { .. } => out.push('!'),
            Step::Negotiate => out.push('O'),
            Step::Renegotiate => out.push('o'),
            Step::Close => out.push('q'),
            Step::Macros | Step::Nothing => {}
        }
    }
    out
}

#[test]
fn c57_c58_c59_c96_to_c100_golden_sessions() {
    for (check, commands, want) in [
        (
            "c96",
            "O D C D H D M D R D T D L D L D N D B D B D E A A Q",
            "OCH(MRTLLNBBE).q",
        ),
        (
            "c97",
            "O D C D H D M D R D T L L N B B D E Q",
            "OCH(MRTLLNBBE).q",
        ),
        (
            "c98",
            "O D C D H D M D R D T D L D N D B D E Q",
            "OCH(MRTLNBE).q",
        ),
        ("c99", "O D C", "OC"),
        ("c100", "O D C Q", "OC.q"),
        ("c58", "O Q", "Oq"),
        ("c59 without connect", "O M R T L N B E Q", "O(MRTLNBE).q"),
        ("c59 without HELO", "O C M R T N E Q", "OC(MRTNE).q"),
        ("c59 content only", "O L L E L E Q", "O(LLE)(LE).q"),
        (
            "c57",
            "O C H M R T L N B E A M R T N E A Q",
            "OCH(MRTLNBE)(MRTNE).q",
        ),
    ] {
        assert_eq!(seen(commands, &[]), want, "{check}");
    }
}

#[test]
fn c45_to_c50_aborts_said_and_unsaid() {
    for (check, commands, want) in [
        ("c46", "O A C A H A Q", "OCH.q"),
        ("c47", "O M A A Q", "O(Mx.q"),
        ("c48", "O M M R E", "O(Mx(MRE)"),
        ("c49", "O H M R H A M", "OH(MRxH(M"),
        ("c50", "O C M R Q", "OC(MR.q"),
        ("c45", "O C M K C M E K C K Q", "OC(M.C(ME).C.q"),
        ("c45 unasked", "O K C C", "OC.C"),
        ("a message without end", "O M R T L N B", "O(MRTLNB"),
    ] {
        assert_eq!(seen(commands, &[]), want, "{check}");
    }
}

#[test]
fn c51_to_c56_verdicts_decide_messages() {
    let no = |c| (c, Verdict::Reject);
    let yes = |c| (c, Verdict::Accept);
    let drop = |c| (c, Verdict::Discard);
    for (check, commands, verdicts, want) in [
        ("c51", "O M A M R", vec![no('M')], "O(M)(M)="),
        ("c52", "O M R R T L N E", vec![no('R')], "O(MRRTLNE)"),
        ("c53", "O M R R T A M", vec![drop('R')], "O(MR)==(M"),
        (
            "c54",
            "O M R T T R T A M R T M",
            vec![no('T')],
            "O(MRTTRTx(MRTx(M",
        ),
        ("c55", "O M R U L N E", vec![], "O(MRULNE)"),
        ("c55 refused", "O M R U T E", vec![no('U')], "O(MRUTE)"),
        ("c56", "O M R A M R A Q", vec![yes('R')], "O(MR)(MR).q"),
        (
            "accepted to the end",
            "O M R T L N E M",
            vec![yes('M')],
            "O(M)=====(M)",
        ),
        (
            "accepted connection",
            "O C H M R U E K C H",
            vec![yes('C')],
            "OC=====.C=",
        ),
        ("refused content", "O M L L E M", vec![no('L')], "O(ML)==(M"),
    ] {
        assert_eq!(seen(commands, &verdicts), want, "{check}");
    }
    let tempfail = SmtpReply::tempfail("later").into();
    assert_eq!(seen("O M R R E", &[('R', tempfail)]), "O(MRRE)");
}

/// Sendmail sends a filter that declined MAIL no abort, and none that accepted or refused.
#[test]
fn c48_messages_are_kept_apart_where_mail_was_declined() {
    let yes = |c| (c, Verdict::Accept);
    let no = |c| (c, Verdict::Reject);
    for (commands, verdicts, want) in [
        ("O C d R d R T L E", vec![], "OC(Rx(RTLE)"),
        ("O C d D R R d A d D R", vec![], "OC(RRx(R"),
        ("O d M d M", vec![], "O(Mx(M"),
        ("O d R d R R", vec![yes('R')], "O(R)(R)(R)"),
        // Nor does the next message count as decided where no macros come at all.
        ("O R R", vec![yes('R')], "O(R)(R)"),
        ("O L L N E L L N E", vec![], "O(LLNE)(LLNE)"),
        ("O L N L", vec![no('N')], "O(LN)(L"),
        ("O N A N", vec![yes('N')], "O(N)(N)"),
    ] {
        assert_eq!(seen(commands, &verdicts), want, "{commands}");
    }
}

#[test]
fn what_cannot_come_is_misplaced_and_changes_nothing() {
    assert_eq!(seen("O M R L R T L N L N B R E", &[]), "O(MRL!!LN!!B!E)");
}

/// An unknown command may come wherever a command may, and changes nothing.
#[test]
fn c44_unknown_commands_are_asked_about_in_every_state() {
    let all = "O C H M R T L N B E";
    for at in "O C".len()..=all.len() {
        let commands = format!("{}U{}", &all[..at], &all[at..]);
        assert_eq!(seen(&commands, &[]).replace('U', ""), seen(all, &[]));
        assert_eq!(seen(&commands, &[]).matches('U').count(), 1, "{commands}");
    }
    let decided = seen("O M U R U A U", &[('M', Verdict::Reject)]);
    assert_eq!(decided, "O(M)U=UU");
}

#[test]
fn before_the_negotiation() {
    for code in "CHMRTULNBE".chars() {
        assert_eq!(seen(&code.to_string(), &[]), "E", "{code}");
    }
    assert_eq!(seen("D A K O O Q", &[]), "Ooq");
    let error = StateMachine::new().step(&command('M')).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the command 'M' came before the negotiation"
    );
}

/// Whatever the order of four commands, each that is due a reply is delivered, decided or
/// misplaced, and messages begin and end in turn.
#[test]
fn every_order_of_four_commands() {
    let codes: Vec<char> = "ODdCHMRTULNBEAK".chars().collect();
    for i in 0..codes.len().pow(4) {
        let commands: String = (0..4)
            .map(|k| codes[i / codes.len().pow(k) % codes.len()])
            .collect();
        let got = seen(
            &format!("O{commands}Q"),
            &[('M', Verdict::Reject), ('T', Verdict::Accept)],
        );
        let due = commands
            .chars()
            .filter(|c| "CHMRTULNBE".contains(*c))
            .count();
        let answered = got.chars().filter(|c| "CHMRTULNBE=!".contains(*c)).count();
        assert_eq!(answered, due, "{commands}: {got}");
        let mut open = false;
        for c in got.chars() {
            match c {
                '(' => {
                    assert!(!open, "{commands}: {got}");
                    open = true;
                }
                ')' | 'x' => {
                    assert!(open, "{commands}: {got}");
                    open = false;
                }
                '.' => open = false,
                _ => {}
            }
        }
    }
}
