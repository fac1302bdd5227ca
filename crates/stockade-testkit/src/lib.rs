//! What the tests share: the laboratory in which attacks and everyday jobs run, and a model
//! server that follows a script. For tests only; nothing of it is in the product.

mod corpus;
mod lab;
pub mod model;
mod other_user;

pub use corpus::{Case, Kind, load};
pub use lab::{Lab, Mode, Seen, User, is_second_backend};
pub use other_user::again_as_ordinary_user;
