//! Twenty seeds on which every invariant has to hold, every scheduled fault has to fire, and enough has to be done.

use crate::{chaos, text};

fn holds(seed: u64) {
    let output = chaos(&["run", "--seed", &seed.to_string()]);
    assert!(output.status.success(), "{}", text(&output));
}

macro_rules! seeds {
    ($($name:ident $seed:literal),* $(,)?) => {
        $(
            #[test]
            fn $name() {
                holds($seed);
            }
        )*
    };
}

seeds! {
    seed_0 0, seed_1 1, seed_2 2, seed_3 3, seed_4 4, seed_5 5, seed_6 6, seed_7 7, seed_8 8, seed_9 9,
    seed_10 10, seed_11 11, seed_12 12, seed_13 13, seed_14 14, seed_15 15, seed_16 16, seed_17 17, seed_18 18,
    seed_19 19,
}
