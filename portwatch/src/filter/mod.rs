//! The filter language: parse, check, evaluate. Pure.
