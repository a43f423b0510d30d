//! Stable names as constants, with a list of all of them that a test can compare with the documentation.

/// Defines each name as a `&str` constant, and `ALL`, which has all of them.
#[macro_export]
macro_rules! names {
    ($($name:ident),+ $(,)?) => {
        $crate::names! { @each $($name = stringify!($name)),+ }
    };
    ($($name:ident = $text:literal),+ $(,)?) => {
        $crate::names! { @each $($name = $text),+ }
    };
    (@each $($name:ident = $text:expr),+) => {
        $(
            #[doc = concat!("`", $text, "`")]
            pub const $name: &str = $text;
        )+

        /// All of them.
        pub const ALL: &[&str] = &[$($name),+];
    };
}
