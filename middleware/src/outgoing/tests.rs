use milter_tower::edit::{Mail, Profile};
use milter_tower::{Field, Header, Modification, Response};
use proptest::prelude::*;

use super::{Ours, Seen};

const OURS: &str = "mx.example.org; spf=pass";
const OTHERS: &str = "mx.example.net; spf=pass";

/// What a filter within does.
#[derive(Clone, Debug)]
enum Edit {
    Add,
    Insert(u32),
    Change(u32),
    Delete(u32),
    Other,
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        Just(Edit::Add),
        (0..4_u32).prop_map(Edit::Insert),
        (1..8_u32).prop_map(Edit::Change),
        (1..8_u32).prop_map(Edit::Delete),
        Just(Edit::Other),
    ]
}

impl Edit {
    fn modification(&self, value: &str) -> Modification {
        let name = Ours::NAME.to_ascii_lowercase();
        match self {
            Self::Add => Modification::add_header(name, value),
            Self::Insert(index) => Modification::insert_header(*index, name, value),
            Self::Change(index) => Modification::change_header(name, *index, value),
            Self::Delete(index) => Modification::delete_header(name, *index),
            Self::Other => Modification::add_header("X-Other", value),
        }
        .unwrap()
    }
}

/// The values of the headers, sorted: where they stand differs.
fn left(mail: &Mail) -> Vec<String> {
    let headers = mail.headers().map(Field::from);
    let results = headers.filter(|field| field.is_auth_results());
    let mut values: Vec<_> = results.map(|field| field.value().to_string()).collect();
    values.sort();
    values
}

proptest! {
    /// Those in our name go and nothing else, whatever the filter within does to those of the name.
    #[test]
    fn indices_are_right_on_all_mtas(
        mut came in prop::collection::vec(any::<bool>(), 1..6),
        forged in any::<prop::sample::Index>(),
        edits in prop::collection::vec(edit(), 0..5),
    ) {
        let forged = forged.index(came.len());
        came[forged] = true;
        let values: Vec<String> = came.iter().enumerate().map(|(n, ours)| {
            format!("{}{n}", if *ours { OURS } else { OTHERS })
        }).collect();
        let (ours, mut seen) = (Ours::new(b"mx.example.org"), Seen::default());
        for value in &values {
            ours.note(&Header::new(Ours::NAME, value.clone()), &mut seen);
        }
        let names: Vec<String> = (0..edits.len()).map(|n| format!("new {n}")).collect();
        let within = edits.iter().zip(&names).map(|(edit, value)| edit.modification(value));
        let response = seen.take_out(Response::accept().edit_all(within));

        let mut kept: Vec<Option<String>> = came.iter().zip(&values)
            .map(|(ours, value)| (!ours).then(|| value.clone())).collect();
        let mut added = Vec::new();
        for (edit, value) in edits.iter().zip(&names) {
            match edit {
                Edit::Change(index) => match kept.get_mut(*index as usize - 1) {
                    Some(place) => *place = Some(value.clone()),
                    None => added.push(value.clone()),
                },
                Edit::Add | Edit::Insert(_) => added.push(value.clone()),
                Edit::Delete(_) | Edit::Other => {}
            }
        }
        for edit in &edits {
            if let Edit::Delete(index) = edit {
                if let Some(place) = kept.get_mut(*index as usize - 1) {
                    *place = None;
                }
            }
        }
        let mut wanted: Vec<String> = kept.into_iter().flatten().chain(added).collect();
        wanted.sort();
        for profile in [Profile::postfix(), Profile::sendmail()] {
            let mut mail = Mail::new(profile).with_header(Header::new("Subject", " s"));
            for value in &values {
                mail.push_header(Header::new(Ours::NAME, format!(" {value}")));
            }
            mail.apply(&Modification::order(response.edits().to_vec()), false).unwrap();
            prop_assert_eq!(left(&mail), wanted.clone(), "{:?}", response.edits());
            let others = mail.headers().filter(|header| header.name() == "X-Other").count();
            prop_assert_eq!(others, edits.iter().filter(|edit| matches!(edit, Edit::Other)).count());
        }
    }
}
