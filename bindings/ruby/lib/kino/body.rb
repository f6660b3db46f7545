# frozen_string_literal: true

module Kino
  # Response bodies that are more than an array of strings.
  module Body
    # What a streaming body writes to. Until responses stream, it collects; there is nothing to read.
    class Stream
      # @return [String] what was written
      attr_reader :bytes

      def initialize
        @bytes = String.new
        @closed = false
      end

      # @param chunk [#to_s]
      # @return [Integer] the bytes written
      def write(chunk)
        raise IOError, "the stream is closed" if @closed

        chunk = chunk.to_s
        @bytes << chunk.b
        chunk.bytesize
      end

      # @return [self]
      def <<(chunk)
        write(chunk)
        self
      end

      # @return [String, nil] as at the end of the client's data
      def read(length = nil, buffer = nil) = Input::EMPTY.read(length, buffer)

      # @return [self]
      def flush = self

      # @return [nil]
      def close
        @closed = true
        nil
      end
      alias close_write close

      # @return [nil]
      def close_read = nil

      # @return [Boolean]
      def closed? = @closed
    end

    # Read all of a body, and close it, whatever happens.
    #
    # @param body [#each, #call]
    # @return [String]
    def self.read(body)
      if body.respond_to?(:each) then collect(body)
      elsif body.respond_to?(:call) then Stream.new.tap { body.call(_1) }.bytes
      else raise TypeError, "a #{body.class} is no response body: it has neither each nor call"
      end
    ensure
      body.close if body.respond_to?(:close)
    end

    def self.collect(body)
      bytes = String.new
      body.each do |chunk|
        raise TypeError, "the body has a #{chunk.class}, not a String" unless chunk.is_a?(String)

        bytes << chunk.b
      end
      bytes
    end
    private_class_method :collect
  end
end
