# frozen_string_literal: true

# The runner's own rules, without a server under test: rspec test/cases

require_relative "client"

RSpec.describe Cases::Answers do
  def statuses(bytes, **options) = described_class.parse(bytes, **options).map(&:status)

  def bodies(bytes) = described_class.parse(bytes).map(&:body)

  it "separates answers by their content-length" do
    bytes = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK" \
            "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"
    expect(statuses(bytes)).to eq [200, 404]
    expect(bodies(bytes)).to eq ["OK", ""]
  end

  it "gives an interim answer no body" do
    bytes = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
    expect(statuses(bytes)).to eq [100, 200]
  end

  it "joins chunks, and takes what follows them for the next answer" do
    bytes = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n" \
            "HTTP/1.1 400 Bad Request\r\n\r\n"
    expect(statuses(bytes)).to eq [200, 400]
    expect(bodies(bytes)).to eq ["abc", ""]
  end

  it "expects no body in answer to HEAD" do
    bytes = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nHTTP/1.1 400 Bad Request\r\n\r\n"
    expect(statuses(bytes, to_head: true)).to eq [200, 400]
  end

  it "does not take an echoed status line for an answer" do
    bytes = "HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\nHTTP/1.1 400 X"
    expect(statuses(bytes)).to eq [200]
  end

  it "does not take half a head or other bytes for an answer" do
    expect(statuses("HTTP/1.1 200 OK\r\nContent-Le")).to be_empty
    expect(statuses("<h1>Bad Request</h1>")).to be_empty
  end
end

RSpec.describe Cases::Judge do
  def met?(expect, statuses, closed: false, allowed: 0, body: nil, came: "")
    answers = statuses.map { Cases::Answer.new(status: _1, body: came) }
    described_class.met?({ "expect" => expect, "answers" => allowed, "body" => body }, answers,
                         closed)
  end

  it "accepts on a good answer, unless the first final one refuses the request's form" do
    expect(met?("accept", [200])).to be true
    expect(met?("accept", [100, 405])).to be true
    expect(met?("accept", [200, 400])).to be true
    expect(met?("accept", [408, 200])).to be true
    expect(met?("accept", [400, 200])).to be false
    expect(met?("accept", [100])).to be false
    expect(met?("accept", [500])).to be false
    expect(met?("accept", [])).to be false
  end

  it "rejects on a bad answer or the end, with no more good ones than are due" do
    expect(met?("reject", [400])).to be true
    expect(met?("reject", [], closed: true)).to be true
    expect(met?("reject", [200], closed: true, allowed: 1)).to be true
    expect(met?("reject", [200, 200], closed: true, allowed: 1)).to be false
    expect(met?("reject", [200, 400])).to be false
    expect(met?("reject", [])).to be false
    expect(met?("reject", [404])).to be false
  end

  it "waits on nothing final and an open connection" do
    expect(met?("wait", [])).to be true
    expect(met?("wait", [100])).to be true
    expect(met?("wait", [408])).to be false
    expect(met?("wait", [], closed: true)).to be false
  end

  it "holds the first status against ranges, and the body when it is 2xx" do
    expect(met?([[100, 100], [200, 299]], [100, 500])).to be true
    expect(met?([[400, 499]], [200, 400])).to be false
    expect(met?([[400, 499]], [], closed: true)).to be false
    expect(met?([[200, 299]], [200], body: "hello", came: "hello")).to be true
    expect(met?([[200, 299]], [200], body: "hello", came: "hell")).to be false
    expect(met?([[200, 299], [400, 499]], [400], body: "hello")).to be true
  end
end

RSpec.describe Cases::Client do
  # The result of one case whose server does what the block says with its connection.
  def run_case(expect, &)
    TCPServer.open("127.0.0.1", 0) do |server|
      peer = Thread.new { server.accept.then(&) }
      a_case = { "id" => "x", "raw" => "\u00e3", "expect" => expect, "answers" => 0 }
      return described_class.new(server.local_address.ip_port).run([a_case]).first
    ensure
      peer.join
    end
  end

  it "sends each character as one byte, and sees the connection's end" do
    got = nil
    result = run_case("reject") do |socket|
      got = socket.readpartial(10)
      socket.close
    end
    expect(got).to eq "\xE3".b
    expect(result).to have_attributes(closed: true, met: true)
  end

  it "counts an answer that came before the end" do
    result = run_case("accept") do |socket|
      socket.readpartial(10)
      socket.write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
      socket.close
    end
    expect(result.answers.map(&:status)).to eq [200]
    expect(result.met).to be true
  end

  it "does not take silence for a refusal" do
    open = nil
    result = run_case("reject") { open = _1 }
    expect(result).to have_attributes(closed: false, met: false)
  ensure
    open&.close
  end
end
