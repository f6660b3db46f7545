# frozen_string_literal: true

module Kino
  # A request's body as Rack wants it: binary, read once, forwards. The server makes it.
  class Input
    # What a request without a body has. Shared by all: it has no position.
    class Empty
      # @return [String, nil]
      def read(length = nil, buffer = nil)
        buffer&.clear
        buffer || String.new unless length&.positive?
      end

      # @return [nil]
      def gets = nil

      # @yield never
      def each = self

      # @return [nil]
      def close = nil
    end

    # The one object of its class.
    EMPTY = Ractor.make_shareable(Empty.new)

    # @param bytes [String] binary
    def initialize(bytes)
      @bytes = bytes
      @position = 0
    end

    # @param length [Integer, nil] the most bytes to read; all that is left by default
    # @param buffer [String, nil] is made to hold the result, and returned
    # @return [String, nil] nil at the end where a length above 0 was asked for
    def read(length = nil, buffer = nil)
      raise ArgumentError, "negative length #{length} given" if length&.negative?

      piece = next_piece(length || @bytes.bytesize)
      return buffer ? buffer.replace(piece) : piece unless piece.empty? && length&.positive?

      buffer&.clear
      nil
    end

    # @return [String, nil] the next line, with its newline; nil at the end
    def gets
      return if @position >= @bytes.bytesize

      newline = @bytes.byteindex("\n", @position)
      next_piece(newline ? newline + 1 - @position : @bytes.bytesize)
    end

    # @yieldparam line [String] each line that is left
    def each
      while (line = gets)
        yield line
      end
      self
    end

    # Lets go of the bytes; what is read afterwards is empty.
    # @return [nil]
    def close
      @bytes = "".b
      nil
    end

    private

    def next_piece(length)
      piece = @bytes.byteslice(@position, length) || "".b
      @position += piece.bytesize
      piece
    end
  end
end
