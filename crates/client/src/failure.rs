//! Why a command failed: for people, for programs, and as an exit code.
