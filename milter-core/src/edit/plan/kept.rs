//! Which headers stay in their place while others move past them.

use crate::Header;

use super::{Edited, Fate};

/// The headers that stay: those shown and wanted that are in the same order in both lists.
#[derive(Debug)]
pub(super) struct Kept {
    /// For each shown header its place among those wanted.
    wanted_at: Vec<Option<usize>>,
    /// For each wanted header its place among those shown.
    place_of: Vec<Option<usize>>,
}

/// A header that could stay.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    /// Its place among those shown.
    place: usize,
    /// Its place among those wanted.
    at: usize,
    /// How many modifications it saves to let it stay.
    saved: usize,
}

impl Kept {
    /// Lets those stay with which there is least to do.
    pub(super) fn choose(
        shown: &[Header],
        wanted: &[Edited<'_>],
        fate: impl Fn(&Header, &Header) -> Fate,
    ) -> Self {
        let candidates: Vec<Candidate> = wanted
            .iter()
            .enumerate()
            .filter_map(|(at, new)| {
                let place = new.origin?;
                // Otherwise it takes a delete and an insert.
                let saved = match fate(shown.get(place)?, new.header) {
                    Fate::Same => 2,
                    Fate::Changed => 1,
                    Fate::Replaced => return None,
                };
                Some(Candidate { place, at, saved })
            })
            .collect();
        let mut kept = Self {
            wanted_at: vec![None; shown.len()],
            place_of: vec![None; wanted.len()],
        };
        let keep = |candidate: &Candidate| {
            kept.wanted_at[candidate.place] = Some(candidate.at);
            kept.place_of[candidate.at] = Some(candidate.place);
        };
        if candidates.is_sorted_by(|one, next| one.place < next.place) {
            candidates.iter().for_each(keep);
        } else {
            best_in_order(&candidates, shown.len())
                .iter()
                .for_each(keep);
        }
        kept
    }

    /// Where a shown header is among those wanted, if it stays.
    pub(super) fn wanted_at(&self, place: usize) -> Option<usize> {
        self.wanted_at.get(place).copied().flatten()
    }

    /// The place among those shown of the first that stays.
    pub(super) fn first_place(&self) -> Option<usize> {
        self.wanted_at.iter().position(Option::is_some)
    }

    /// The places, among those wanted, of the first and the last that stay.
    pub(super) fn ends(&self) -> Option<(usize, usize)> {
        let stays = |place: &Option<usize>| place.is_some();
        let first = self.place_of.iter().position(stays)?;
        Some((first, self.place_of.iter().rposition(stays)?))
    }

    /// Where a wanted header is among those shown, if it stays.
    pub(super) fn place_of(&self, at: usize) -> Option<usize> {
        self.place_of.get(at).copied().flatten()
    }
}

/// Those that save most and are in order in both lists.
fn best_in_order(candidates: &[Candidate], places: usize) -> Vec<Candidate> {
    let mut best = BestBefore::new(places);
    // Each candidate as the last one: what all save together, and the one before it.
    let mut chains: Vec<(usize, Option<usize>)> = Vec::with_capacity(candidates.len());
    for (nth, candidate) in candidates.iter().enumerate() {
        let (saved, before) = best.before(candidate.place);
        let saved = saved + candidate.saved;
        chains.push((saved, before));
        best.add(candidate.place, (saved, Some(nth)));
    }
    let (_, last) = best.before(places);
    std::iter::successors(last, |nth| chains[*nth].1)
        .map(|nth| candidates[nth])
        .collect()
}

/// What chains of candidates save, by the place where they end (a Fenwick tree of maxima, so that
/// ten thousand headers in any order are no burden).
struct BestBefore(Vec<(usize, Option<usize>)>);

impl BestBefore {
    fn new(places: usize) -> Self {
        Self(vec![(0, None); places + 1])
    }

    /// The best that ends before a place.
    fn before(&self, place: usize) -> (usize, Option<usize>) {
        let mut best = (0, None);
        let mut node = place;
        while node > 0 {
            best = best.max(self.0[node]);
            node &= node - 1;
        }
        best
    }

    fn add(&mut self, place: usize, chain: (usize, Option<usize>)) {
        let mut node = place + 1;
        while let Some(best) = self.0.get_mut(node) {
            *best = chain.max(*best);
            node += node & node.wrapping_neg();
        }
    }
}
