# frozen_string_literal: true

module Kino
  # `rack.errors`: the standard error of whichever Ractor writes to it. Shared by all.
  class ErrorStream
    # @param lines [Array<#to_s>]
    def puts(*lines) = $stderr.puts(*lines)

    # @param text [#to_s]
    # @return [Integer] the bytes written
    def write(text) = $stderr.write(text)

    # @return [self]
    def flush
      $stderr.flush
      self
    end

    # The one object of its class.
    STDERR = Ractor.make_shareable(new)
  end
end
