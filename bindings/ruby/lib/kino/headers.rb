# frozen_string_literal: true

module Kino
  # Response headers that are more than a Hash of strings.
  module Headers
    # @param headers [#each] of pairs
    # @return [Hash{String => String, Array<String>}]
    def self.to_strings(headers)
      unless headers.respond_to?(:each)
        raise TypeError, "a #{headers.class} is no response headers: it has no each"
      end

      strings = {}
      headers.each do |name, value|
        strings[name.to_s] = value.is_a?(Array) ? value.map(&:to_s) : value.to_s
      end
      strings
    end
  end
end
