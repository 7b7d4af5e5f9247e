//! Macros against a plain model of them, whatever bytes they consist of.

use bytes::BytesMut;
use milter_core::{Command, FilterCodec, MacroStage, Macros};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use tokio_util::codec::Decoder;

type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// Whole pairs, each string ended by NUL.
fn pairs(set: &[u8]) -> Pairs {
    let mut strings: Vec<&[u8]> = set.split(|byte| *byte == 0).collect();
    strings.pop();
    strings
        .chunks_exact(2)
        .map(|pair| (pair[0].to_vec(), pair[1].to_vec()))
        .collect()
}

fn bare(name: &[u8]) -> &[u8] {
    match name {
        [b'{', bare @ .., b'}'] => bare,
        _ => name,
    }
}

#[derive(Clone, Debug)]
enum Op {
    Set(MacroStage, Vec<u8>),
    Enter(MacroStage),
    EndSession,
}

fn op() -> impl Strategy<Value = Op> {
    let stage = || select(&MacroStage::ALL[..]);
    let named = vec(("\\{?[ab]{0,2}\\}?", "[xy]{0,2}"), 0..5).prop_map(|pairs| {
        let strings = pairs.into_iter().flat_map(|(name, value)| [name, value]);
        strings
            .map(|text| text + "\0")
            .collect::<String>()
            .into_bytes()
    });
    let any = vec(
        prop_oneof![Just(0), any::<u8>(), select(&b"{a}"[..])],
        0..20,
    );
    prop_oneof![
        5 => (stage(), prop_oneof![named, any]).prop_map(|(stage, set)| Op::Set(stage, set)),
        4 => stage().prop_map(Op::Enter),
        1 => Just(Op::EndSession),
    ]
}

/// A stage's set, and whether its command has not come yet.
#[derive(Default)]
struct Model([(Vec<u8>, bool); 7]);

impl Model {
    fn apply(&mut self, op: &Op) {
        let place = |stage| {
            MacroStage::ALL
                .iter()
                .position(|s| *s == stage)
                .expect("there")
        };
        let at = match op {
            Op::EndSession => {
                // What belongs to the next session stays.
                let next = std::mem::take(&mut self.0[place(MacroStage::Connect)]);
                *self = Self::default();
                if next.1 {
                    self.0[place(MacroStage::Connect)] = next;
                }
                return;
            }
            Op::Set(stage, set) => {
                self.0[place(*stage)] = (set.clone(), true);
                place(*stage)
            }
            Op::Enter(stage) => {
                let (set, fresh) = &mut self.0[place(*stage)];
                if !std::mem::take(fresh) {
                    set.clear();
                }
                place(*stage)
            }
        };
        if at <= place(MacroStage::Rcpt) {
            self.0[at + 1..].fill_with(Default::default);
        }
    }
}

proptest! {
    #[test]
    fn c27_to_c34_any_bytes_are_macros(ops in vec(op(), 0..12)) {
        let (mut macros, mut model) = (Macros::default(), Model::default());
        for op in &ops {
            match op {
                Op::Set(stage, set) => macros.set(*stage, set),
                Op::Enter(stage) => macros.enter(*stage),
                Op::EndSession => macros.end_session(),
            }
            model.apply(op);
        }
        let mut known: Pairs = Vec::new();
        for (stage, (set, _)) in MacroStage::ALL.into_iter().zip(&model.0) {
            let want = pairs(set);
            let got: Pairs = macros.iter(stage).map(|(n, v)| (n.to_vec(), v.to_vec())).collect();
            prop_assert_eq!(&got, &want);
            for (name, _) in &want {
                let first = want.iter().find(|(n, _)| bare(n) == bare(name)).expect("itself");
                prop_assert_eq!(macros.get_at(stage, name).expect("there"), &first.1[..]);
            }
            // Later stages are asked first, and within one the first of a name counts.
            known.splice(0..0, want);
        }
        for (name, _) in &known {
            let (_, value) = known.iter().find(|(n, _)| bare(n) == bare(name)).expect("itself");
            prop_assert_eq!(macros.get(name).expect("there"), &value[..]);
        }
        let held: usize = model.0.iter().map(|(set, _)| set.len()).sum();
        prop_assert_eq!(macros.held_bytes(), held);
        let shown = format!("{macros:?}");
        prop_assert_ne!(shown, "");
    }

    #[test]
    fn c27_any_macro_frame_with_a_code_is_read(code in any::<u8>(), set in vec(0..4_u8, 0..20)) {
        let length = u32::try_from(set.len() + 2).expect("small");
        let frame = [&length.to_be_bytes()[..], &[b'D', code], &set].concat();
        let read = FilterCodec::new().decode(&mut BytesMut::from(&frame[..]));
        let Ok(Some(Command::Macros(read))) = read else {
            return Err(TestCaseError::fail(format!("{read:?}")));
        };
        prop_assert_eq!(read.command_code(), code);
        prop_assert_eq!(read.stage().is_some(), b"CHMRTNE".contains(&code));
        let got: Pairs = read.iter().map(|(n, v)| (n.to_vec(), v.to_vec())).collect();
        prop_assert_eq!(got, pairs(&set));
    }
}
