//! A valid history passes; each way of breaking it is found under its rule. A judge that finds nothing in a forged
//! history proves nothing about a real one.
