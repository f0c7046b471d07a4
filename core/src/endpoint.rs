//! Where an origin listens, in the forms a registration may use.
