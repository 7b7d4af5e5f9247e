use milter_core::Modification;
use milter_core::edit::{PlanError, Profile, Unplaceable};

use super::*;

fn shown(fields: &[(&'static str, &'static str)]) -> Headers {
    let fields = fields.iter();
    Headers::from_shown(fields.map(|(name, raw)| Header::new(*name, *raw)), true)
}

fn text(headers: &Headers) -> String {
    let fields: Vec<_> = headers
        .iter()
        .map(|field| format!("{}:{}", field.name(), field.raw()))
        .collect();
    fields.join("|")
}

fn four() -> Headers {
    shown(&[("A", " 1"), ("B", "2"), ("a", "  3 "), ("C", "")])
}

#[test]
fn looking_disregards_case_and_keeps_bytes() {
    let headers = four();
    assert_eq!(headers.len(), 4);
    assert_eq!(headers.get("a").unwrap().raw(), " 1");
    assert_eq!(headers.get_str("b"), Some("2"));
    assert_eq!(headers.get_str("D"), None);
    assert_eq!(headers.get_str("c"), Some(""));
    let all: Vec<_> = headers.get_all("A").map(Field::value).collect();
    assert_eq!(all, ["1", "3"]);
    assert_eq!(headers.get_all("a").next_back().unwrap().raw(), "  3 ");
    assert_eq!(headers.position("C"), Some(3));
    assert!(headers.contains("B") && !headers.contains(""));
    assert_eq!(headers.iter().len(), 4);
    assert_eq!(shown(&[("X", " \u{e9}")]).get_str("x"), Some("é"));
    let latin = [Header::new("X", &b" \xe9"[..])];
    assert_eq!(Headers::from_iter(latin).get_str("x"), None);
}

#[test]
fn a_space_that_the_mta_left_out_comes_back() {
    let headers = Headers::from_shown([Header::new("A", "1"), Header::new("B", "")], false);
    assert_eq!(text(&headers), "A: 1|B: ");
}

#[test]
fn fields_go_where_they_are_put() {
    let mut headers = four();
    headers.prepend("X", "top");
    headers.append("Y", "end");
    assert!(headers.insert_before(("A", 2), "P", "p"));
    assert!(headers.insert_after("b", "Q", "q"));
    assert!(headers.insert_after("y", "Z", "z"));
    assert!(!headers.insert_before(("A", 3), "N", "n"));
    assert!(!headers.insert_after(("A", 0), "N", "n"));
    assert_eq!(
        text(&headers),
        "X: top|A: 1|B:2|Q: q|P: p|a:  3 |C:|Y: end|Z: z"
    );
}

#[test]
fn raw_values_keep_every_byte() {
    let mut headers = four();
    headers.prepend_raw("X", "top");
    headers.append_raw("Y", "\tend ");
    assert!(headers.insert_before_raw("B", "P", "p"));
    assert!(headers.insert_after_raw("B", "Q", "  q"));
    assert!(headers.replace_raw("C", "c"));
    assert_eq!(
        text(&headers),
        "X:top|A: 1|P:p|B:2|Q:  q|a:  3 |C:c|Y:\tend "
    );
}

#[test]
fn fields_are_replaced_and_removed() {
    let mut headers = four();
    assert!(headers.replace(("A", 2), "new") && !headers.replace("X", "new"));
    assert_eq!(text(&headers), "A: 1|B:2|a: new|C:");
    assert_eq!(headers.replace_all("a", "x"), 2);
    assert_eq!(text(&headers), "A: x|B:2|a: x|C:");
    headers.set("A", "y");
    headers.set("D", "z");
    assert_eq!(text(&headers), "A: y|B:2|C:|D: z");
    assert!(headers.rename("c", "c") && !headers.rename("X", "Y"));
    assert_eq!(text(&headers), "A: y|B:2|c:|D: z");

    let mut headers = four();
    assert!(headers.remove(("a", 2)) && !headers.remove(("a", 2)));
    assert_eq!(text(&headers), "A: 1|B:2|C:");
    let mut headers = four();
    assert_eq!((headers.remove_all("a"), headers.remove_all("a")), (2, 0));
    headers.retain(|field| field.value().is_empty());
    assert_eq!(text(&headers), "C:");
    assert_eq!(headers.remove_if(|_| true), 1);
    assert!(headers.is_empty());

    let mut headers = four();
    let mut asked = String::new();
    headers.remove_if(|field| {
        asked.push_str(&field.name().to_string_lossy());
        field.is_named("B") || field.is_named("C")
    });
    assert_eq!(
        (text(&headers), asked),
        ("A: 1|a:  3 ".into(), "ABaC".into())
    );
}

#[test]
fn c70_values_cannot_leave_their_field() {
    let mut headers = Headers::new();
    headers.append("A", "1\r\nB: 2\r\n\r\nbody");
    assert_eq!(headers.get("A").unwrap().raw(), " 1\n\tB: 2\n\tbody");
    assert_eq!(headers.error(), None);
}

#[test]
fn the_first_change_that_cannot_be_made_is_kept() {
    let spoils: [fn(&mut Headers); 7] = [
        |headers| headers.prepend("no name", "x"),
        |headers| headers.append_raw("", "x"),
        |headers| assert!(!headers.insert_before("A", "X:", "x")),
        |headers| assert!(!headers.insert_after("A", "X\n", "x")),
        |headers| assert!(headers.replace("A", "\0")),
        |headers| assert!(headers.rename("A", "\u{e9}")),
        |headers| headers.set("A\0", "x"),
    ];
    for spoil in spoils {
        let mut headers = four();
        spoil(&mut headers);
        let error = headers.error().cloned();
        assert!(error.is_some());
        assert_eq!(headers, four());
        headers.append("other", "\0");
        headers.append("X", "x");
        assert_eq!(headers.error().cloned(), error);
    }
}

#[test]
fn equal_is_who_has_the_same_fields() {
    let mut headers = four();
    headers.prepend("X", "x");
    assert_ne!(headers, four());
    headers.remove("X");
    assert_eq!(headers, four());
    assert_ne!(shown(&[("A", "1")]), shown(&[("a", "1")]));
    assert_eq!(format!("{headers:?}").matches("Field").count(), 4);
}

fn planned(headers: &Headers) -> [Vec<Modification>; 2] {
    [Profile::postfix(), Profile::sendmail()].map(|profile| {
        let plan = headers.plan(&profile, true, Unplaceable::Refuse);
        plan.expect("can be had")
    })
}

#[test]
fn what_did_not_change_is_no_modification() {
    let mut headers = four();
    assert_eq!(planned(&headers), [vec![], vec![]]);
    headers.prepend("X", "x");
    headers.replace("B", "b");
    headers.remove("X");
    headers.replace_raw("B", "2");
    assert_eq!(headers.remove_all("none"), 0);
    assert_eq!(planned(&headers), [vec![], vec![]]);
}

#[test]
fn changes_become_modifications() {
    let mut headers = four();
    headers.prepend("X", "top");
    assert!(headers.insert_before("A", "P", "p"));
    assert!(headers.insert_after("B", "Q", "q"));
    headers.append("C", "second");
    headers.remove("A");
    headers.rename("B", "b");
    headers.replace(("A", 1), "3");
    let insert = |at, name, value| Modification::insert_header(at, name, value).unwrap();
    let end = i32::MAX.unsigned_abs();
    let change = |name, index, value| Modification::change_header(name, index, value).unwrap();
    let delete = |name| Modification::delete_header(name, 1).unwrap();
    let [postfix, sendmail] = planned(&headers);
    assert_eq!(
        postfix,
        [
            change("b", 1, "2"),
            change("a", 2, " 3"),
            delete("A"),
            insert(0, "X", " top"),
            insert(2, "P", " p"),
            insert(4, "Q", " q"),
            insert(end, "C", " second"),
        ]
    );
    assert_eq!(
        sendmail,
        [
            change("a", 2, " 3"),
            delete("B"),
            delete("A"),
            insert(0, "X", " top"),
            insert(2, "P", " p"),
            insert(3, "b", "2"),
            insert(4, "Q", " q"),
            insert(end, "C", " second"),
        ]
    );
}

#[test]
fn a_change_that_could_not_be_made_fails_the_plan() {
    let mut headers = four();
    headers.append("Y", "y");
    headers.append("X", "\0");
    let error = ModificationError::HeaderValueNul;
    let plan = headers.plan(&Profile::postfix(), true, Unplaceable::Nearest);
    assert_eq!(plan, Err(PlanError::Header(error)));
}

#[test]
fn headers_of_no_mta_are_all_new() {
    let mut headers: Headers = [Header::new("A", " 1")].into_iter().collect();
    headers.append("B", "2");
    let [postfix, _] = planned(&headers);
    assert_eq!(postfix.len(), 2);
}
