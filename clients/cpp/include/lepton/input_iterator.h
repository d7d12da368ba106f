#pragma once

#include <cstddef>
#include <iterator>

namespace lepton {

/// The input iterator of a source that has `bool Next(Value&)`: what makes `for (const auto& value : stream)` work. It
/// reads on when it is incremented; there is one position per source, however many iterators.
template <class Source, class Value>
class InputIterator {
 public:
  using iterator_concept = std::input_iterator_tag;
  using iterator_category = std::input_iterator_tag;
  using value_type = Value;
  using difference_type = std::ptrdiff_t;
  using pointer = const Value*;
  using reference = const Value&;

  InputIterator() = default;
  /// Reads the first value. Throws what `source.Next` throws.
  explicit InputIterator(Source& source) : source_(&source) { ++*this; }

  reference operator*() const { return value_; }
  pointer operator->() const { return &value_; }

  InputIterator& operator++() {
    if (!source_->Next(value_)) source_ = nullptr;
    return *this;
  }
  void operator++(int) { ++*this; }

  friend bool operator==(const InputIterator& iterator, std::default_sentinel_t) {
    return iterator.source_ == nullptr;
  }

 private:
  Source* source_ = nullptr;  // none: at the end
  Value value_ = {};
};

}  // namespace lepton
