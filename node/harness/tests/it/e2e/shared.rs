//! One mesh for several tests of a module: starting one costs seconds.

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{Arc, Mutex, PoisonError},
};

use node_harness::{Mesh, Options};

/// A mesh that is started by the first test that needs it and stopped after the last.
pub struct Shared {
    state: Mutex<State>,
    options: fn() -> Options,
}

struct State {
    mesh: Option<Arc<Mesh>>,
    /// Tests that have not run yet. Where only some are run, the mesh dies with the test process.
    left: usize,
    /// Starting it once failed; the other tests need not wait for that again.
    failed: Option<String>,
}

impl Shared {
    /// For as many tests as there are.
    pub const fn new(tests: usize, options: fn() -> Options) -> Self {
        Self {
            state: Mutex::new(State {
                mesh: None,
                left: tests,
                failed: None,
            }),
            options,
        }
    }

    /// Runs a test on the mesh.
    pub fn test(&self, test: impl FnOnce(&Mesh)) {
        let mesh = self.take();
        let ended = catch_unwind(AssertUnwindSafe(|| test(&mesh)));
        if ended.is_err() {
            eprintln!("{}", mesh.logs());
        }
        self.give_back(mesh);
        if let Err(panic) = ended {
            resume_unwind(panic);
        }
    }

    fn take(&self) -> Arc<Mesh> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(why) = &state.failed {
            panic!("the mesh of this module could not be started: {why}");
        }
        if let Some(mesh) = &state.mesh {
            return mesh.clone();
        }
        match Mesh::start((self.options)()) {
            Ok(mesh) => state.mesh.insert(Arc::new(mesh)).clone(),
            Err(error) => {
                state.failed = Some(error.to_string());
                panic!("{error}");
            }
        }
    }

    fn give_back(&self, mesh: Arc<Mesh>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        drop(mesh);
        state.left = state.left.saturating_sub(1);
        if state.left == 0 {
            // Nobody else holds it, so this stops it.
            state.mesh = None;
        }
    }
}

/// Makes one `#[test]` of each named function, all on one mesh.
macro_rules! on_one_mesh {
    ($options:expr; $($(#[$attribute:meta])* $name:ident,)+) => {
        static MESH: $crate::e2e::shared::Shared =
            $crate::e2e::shared::Shared::new([$(stringify!($name)),+].len(), $options);

        /// The tests, on one mesh.
        mod on_one_mesh {
            $(
                $(#[$attribute])*
                #[test]
                fn $name() {
                    super::MESH.test(super::$name);
                }
            )+
        }
    };
}

pub(crate) use on_one_mesh;
