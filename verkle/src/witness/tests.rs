//! Forged points in every field, and many witnesses judged together.

use super::{Case, Claim, Invalid, Rule, Witness, verify_many};
use crate::commit::{Committer, WindowBits};
use crate::curve::{Point, PointBytes, Scalar, Sum};
use crate::key::KeyPath;
use crate::multiproof::{Equation, Weighted, hold_together};
use crate::setup;
use crate::tree::{Change, Nodes};

static COMMITTER: Committer = Committer::new(WindowBits::SMALL);
const SEED: [u8; 32] = [7; 32];

fn tree(salt: u8) -> Nodes {
    let mut nodes = Nodes::default();
    nodes.apply((0..2_000u16).map(|i| Change::put(&i.to_be_bytes(), &[salt, i as u8])), &COMMITTER);
    nodes
}

/// A claim of a key of [`tree`], true or of another's value.
fn claim(salt: u8, key: u16, honest: bool) -> Claim {
    Claim::value(&key.to_be_bytes(), &[salt, key as u8 ^ !honest as u8])
}

fn prove(nodes: &Nodes, claims: &[Claim]) -> Witness {
    nodes.prove(&claims.iter().map(|claim| claim.path).collect::<Vec<KeyPath>>()).unwrap()
}

fn sum(points: &[Point]) -> Point {
    let mut sum = Sum::ZERO;
    points.iter().for_each(|point| sum += *point);
    sum.to_point()
}

/// `(0, ±2)`.
fn points_of_order_three() -> [Point; 2] {
    let point = Point::decode(&PointBytes(std::array::from_fn(|i| if i == 0 { 0x80 } else { 0 }))).unwrap();
    assert_eq!(sum(&[point; 3]), Point::INFINITY);
    [point, -point]
}

#[test]
fn an_honest_point_and_one_of_order_three_are_refused_in_every_field() {
    let nodes = tree(0);
    let claims = [claim(0, 3, true), claim(0, 1_500, true)];
    let witness = prove(&nodes, &claims);
    let root = nodes.state_root();
    assert_eq!(witness.verify(&root, &claims), Ok(()));
    assert!(!witness.nodes.is_empty());
    let fields = witness.nodes.len() + 3;
    for index in 0..fields {
        for three in points_of_order_three() {
            let mut forged = witness.clone();
            let place = match index {
                0 => &mut forged.root,
                1 => &mut forged.proof.d,
                2 => &mut forged.proof.pi,
                node => &mut forged.nodes[node - 3],
            };
            *place = sum(&[Point::decode(place).unwrap(), three]).encode();
            let expected = [Rule::StateRoot, Rule::Point, Rule::Point].get(index).copied().unwrap_or(Rule::Multiproof);
            let refused = forged.verify(&root, &claims).unwrap_err();
            assert_eq!(refused.rule, expected, "field {index}: {refused}");
            let case = |witness| Case { state_root: root, witness, claims: &claims };
            let verdicts = verify_many(&[case(&witness), case(&forged), case(&witness)], &SEED);
            assert_eq!(verdicts, [Ok(()), Err(refused), Ok(())], "field {index}");
        }
    }
}

#[test]
fn many_witnesses_are_judged_like_each_alone() {
    let trees = [tree(0), tree(1)];
    assert_eq!(verify_many(&[], &SEED), []);
    // Of two states, of one key and of several; some wrong in their claims, their root, their points or their openings.
    let mut owned: Vec<(usize, Witness, Vec<Claim>)> = (0..24u16)
        .map(|i| {
            let salt = i as u8 % 2;
            let claims: Vec<Claim> = (0..=i % 3).map(|k| claim(salt, 37 * i + k, true)).collect();
            (salt as usize, prove(&trees[salt as usize], &claims), claims)
        })
        .collect();
    let judge = |owned: &[(usize, Witness, Vec<Claim>)]| {
        let cases: Vec<Case<'_>> = owned
            .iter()
            .map(|(tree, witness, claims)| Case { state_root: trees[*tree].state_root(), witness, claims })
            .collect();
        let alone: Vec<Result<(), Invalid>> =
            cases.iter().map(|case| case.witness.verify(&case.state_root, case.claims)).collect();
        assert_eq!(verify_many(&cases, &SEED), alone);
        alone.iter().filter(|verdict| verdict.is_err()).count()
    };
    assert_eq!(judge(&owned), 0);
    owned[17].1.proof.pi = Point::generator().encode();
    assert_eq!(judge(&owned), 1, "one forged proof");
    owned[3].2[0] = claim(1, 37 * 3, false);
    owned[4].0 = 1;
    owned[5].1.nodes[0] = PointBytes([0xff; 48]);
    owned[6].1.terminals.pop();
    owned[23].1.proof.d = PointBytes::INFINITY;
    assert_eq!(judge(&owned), 6);
}

#[test]
fn forgeries_that_cancel_each_other_are_refused() {
    let nodes = tree(0);
    let claims = [[claim(0, 3, true)], [claim(0, 1_500, true)]];
    let mut witnesses = claims.each_ref().map(|claims| prove(&nodes, claims));
    let root = nodes.state_root();
    let statements = [0, 1].map(|i| witnesses[i].statement(&root, &claims[i], &[]).unwrap());
    let equations =
        [0, 1].map(|i| Equation::new(&statements[i].commitments, &statements[i].queries, &witnesses[i].proof).unwrap());
    // With π + X in place of π an equation is wrong by (t − τ)·X. For X = (t' − τ)·[1] and X' = −(t − τ)·[1] the errors are
    // opposite; t and t' do not depend on π.
    let distance = |t: Scalar| {
        let tau = Point::decode(&setup::tau_g1()).unwrap();
        sum(&[Sum::of_product(&Point::generator(), &t).to_point(), -tau])
    };
    let errors = [distance(equations[1].t()), -distance(equations[0].t())];
    for (witness, error) in witnesses.iter_mut().zip(errors) {
        witness.proof.pi = sum(&[Point::decode(&witness.proof.pi).unwrap(), error]).encode();
    }
    let commitments: Vec<Point> =
        statements.iter().flat_map(|s| &s.commitments).map(|c| Point::decode(c).unwrap()).collect();
    let places: [Vec<usize>; 2] = [
        (0..statements[0].commitments.len()).collect(),
        (statements[0].commitments.len()..commitments.len()).collect(),
    ];
    let weighted = [0, 1].map(|i| Weighted {
        weight: Scalar::ONE,
        equation: &equations[i],
        nodes: &places[i],
        d: Point::decode(&witnesses[i].proof.d).unwrap(),
        pi: Point::decode(&witnesses[i].proof.pi).unwrap(),
    });
    assert!(hold_together(&commitments, &weighted), "with equal weights the errors cancel");
    assert!(!hold_together(&commitments, &weighted[..1]));

    let cases = [0, 1].map(|i| Case { state_root: root, witness: &witnesses[i], claims: &claims[i] });
    for verdict in verify_many(&cases, &SEED) {
        assert_eq!(verdict.unwrap_err().rule, Rule::Multiproof);
    }
}
