/// The usual ways to what a service has inside.
#[allow(unused_macros, reason = "without any feature there is no layer")]
macro_rules! inner_service {
    () => {
        /// The service within.
        pub fn get_ref(&self) -> &S {
            &self.inner
        }

        /// The service within, to be changed.
        pub fn get_mut(&mut self) -> &mut S {
            &mut self.inner
        }

        /// The service within.
        pub fn into_inner(self) -> S {
            self.inner
        }
    };
}
