use std::net::IpAddr;

use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn addresses_are_the_same_however_they_are_written() {
    assert_eq!(Key::from(ip("::ffff:192.0.2.1")), ip("192.0.2.1").into());
    assert_eq!(
        Key::network(ip("::ffff:192.0.2.1"), 24, 64),
        Key::network(ip("192.0.2.200"), 24, 64)
    );
    assert_ne!(Key::from(ip("192.0.2.1")), "192.0.2.1".into());
}

#[test]
fn networks_have_the_bits_asked_for() {
    for (address, v4, v6, name) in [
        ("192.0.2.77", 32, 0, "192.0.2.77"),
        ("192.0.2.77", 24, 0, "192.0.2.0/24"),
        ("192.0.2.77", 26, 0, "192.0.2.64/26"),
        ("192.0.2.77", 0, 0, "0.0.0.0/0"),
        ("192.0.2.77", 200, 0, "192.0.2.77"),
        ("2001:db8::1", 0, 128, "2001:db8::1"),
        ("2001:db8:1:2:3::1", 0, 64, "2001:db8:1:2::/64"),
        ("2001:db8:1:2:3::1", 0, 0, "::/0"),
        ("2001:db8:1:2:3::1", 0, 255, "2001:db8:1:2:3::1"),
    ] {
        assert_eq!(Key::network(ip(address), v4, v6).to_string(), name);
    }
    // Networks of other lengths are others.
    let of = |v4| Key::network(ip("192.0.0.0"), v4, 0);
    assert_ne!(of(16), of(24));
}

#[test]
fn texts_are_cut_and_shown_on_one_line() {
    let long = "x".repeat(1_000_000);
    assert_eq!(Key::from(long.as_str()), long.into());
    assert_eq!(
        Key::from("x".repeat(400)),
        Key::from("x".repeat(MAX_TEXT).as_bytes())
    );
    assert_eq!(Key::from("a\nb\u{1b}").to_string(), r"a\nb\x1b");
}
