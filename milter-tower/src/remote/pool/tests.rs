use super::*;

fn pool(count: u16) -> Pool {
    Pool::new((1..=count).map(|port| Address::inet("127.0.0.1", port)))
}

fn chosen(pool: &Pool, among: &[&Backend]) -> Vec<usize> {
    let mut counts = vec![0; pool.0.backends.len()];
    for _ in 0..3000 {
        let (at, backend) = pool.0.choose(among).unwrap();
        assert!(std::ptr::eq(among[at], backend));
        counts[at] += 1;
    }
    counts
}

#[test]
fn chance_is_even() {
    let pool = pool(3);
    let all: Vec<&Backend> = pool.0.backends.iter().collect();
    let counts = chosen(&pool, &all);
    assert!(
        counts.iter().all(|count| (800..1200).contains(count)),
        "{counts:?}"
    );
    assert!(pool.0.choose(&[]).is_none());
    assert_eq!(pool.0.choose(&all[2..]).unwrap().0, 0);
}

#[test]
fn the_busiest_of_several_is_never_chosen() {
    let pool = pool(4);
    let all: Vec<&Backend> = pool.0.backends.iter().collect();
    let session = Counted::new(&all[1].sessions);
    let counts = chosen(&pool, &all);
    assert_eq!(counts[1], 0, "{counts:?}");
    assert!([0, 2, 3].iter().all(|at| counts[*at] > 600), "{counts:?}");
    assert_eq!(pool.sessions().map(|(_, count)| count).sum::<usize>(), 1);
    drop(session);
    assert!(chosen(&pool, &all)[1] > 500);
}
