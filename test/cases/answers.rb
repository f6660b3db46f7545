# frozen_string_literal: true

module Cases
  # One answer of a server.
  Answer = Data.define(:status, :body) do
    def final? = status >= 200

    def good? = final? && (status < 400 || [404, 405].include?(status))

    def bad? = final? && !good?
  end

  # Cuts what a server sent into answers. Whatever is none ends the list: a connection that carries
  # anything else has nothing more to say.
  module Answers
    HEAD = %r{\AHTTP/1\.[01] (\d{3})[ \r]}

    # to_head: whether the request was a HEAD, whose answers have no body.
    def self.parse(bytes, to_head: false)
      answers = []
      while (status = bytes[HEAD, 1]&.to_i)
        head, bytes = bytes.split("\r\n\r\n", 2)
        break unless bytes

        body, bytes = bodiless?(status, to_head) ? ["", bytes] : cut_body(head, bytes)
        answers << Answer.new(status:, body:)
      end
      answers
    end

    def self.bodiless?(status, to_head) = to_head || status < 200 || [204, 304].include?(status)
    private_class_method :bodiless?

    # The body that this head announces, and what follows it.
    def self.cut_body(head, bytes)
      return dechunk(bytes) if head.match?(/^transfer-encoding: *chunked/i)

      length = head[/^content-length: *(\d+)/i, 1]&.to_i || bytes.bytesize
      [bytes.byteslice(0, length), bytes.byteslice(length..) || ""]
    end
    private_class_method :cut_body

    def self.dechunk(bytes)
      body = +""
      while (size = bytes[/\A(\h+)\r\n/, 1]&.hex)
        bytes = bytes.split("\r\n", 2).last
        body << bytes.byteslice(0, size)
        bytes = bytes.byteslice((size + 2)..) || ""
        break if size.zero?
      end
      [body, bytes]
    end
    private_class_method :dechunk
  end
end
